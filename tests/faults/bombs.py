"""Small files that unfold or claim much, and what reads each: run in one process whose address space is limited.

usage: python bombs.py DIRECTORY MARGIN: a line of JSON for each bomb, {"name", "said", "peak_kib"}: what was said of it
and how far memory rose above what it was before. With FAULTS=all there are more of them. records/test_bombs.py has
those of zstd, records, shards and indexes.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import resource
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tiny_models import small_vocabulary

from gpt2cli.detection.detector_file import read_detector
from gpt2cli.errors import Gpt2Error
from gpt2cli.evaluation.task_file import load_task
from gpt2cli.interchange.llmc_checkpoint import read_llmc
from gpt2cli.interchange.openai_checkpoint import read_openai
from gpt2cli.model.weights import load_model
from gpt2cli.overlap.bloom import HEADER_BYTES, BloomFilter, BloomHeader
from gpt2cli.records.artefact_kind import BLOOM_START, DETECTOR_START
from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.records.provenance import json_sha256
from gpt2cli.reporter import Silent
from gpt2cli.scaling.curves import read_drawable
from gpt2cli.scaling.terminal_plot import curves_text
from gpt2cli.tokens.huggingface import tokenizer_json
from gpt2cli.tokens.unicode_loss import UnicodeLoss
from gpt2cli.tokens.vocabulary import byte_alphabet, load_vocabulary, recover_merges
from gpt2cli.webtext.judge_links import LinkConfig
from gpt2cli.webtext.links import link_records
from gpt2cli.webtext.page import NoPage, PageBody
from gpt2cli.webtext.page_inputs import open_pages
from gpt2cli.webtext.robots import parse_rules, relevant_lines
from gpt2cli.webtext.signature_file import open_signatures
from gpt2cli.webtext.tally import StepTally

Read = Callable[[Path], object]
MIB = 1 << 20


def of_zeros(times: int) -> bytes:
    """A gzip member of `times` 16 MiB of zeros, without making them: deflate repeats after a full flush."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = coder.compress(bytes(16 * MIB)) + coder.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + piece * times + b"\3\0" + bytes(8)


def links(path: Path) -> None:
    """Select links."""
    for _ in link_records([path], LinkConfig(), StepTally("links"), Silent()):
        pass


def pages(path: Path) -> None:
    """Load every page of a WARC file."""
    with open_pages([path], path.parent, MIB, Silent()) as found:
        assert not isinstance(found, PageBody)
        for page in found:
            page.load()


def records(path: Path) -> None:
    """Go through records."""
    for _ in read_records(path, ReadTally(), foreign=True):
        pass


def signatures(path: Path) -> None:
    """Read a signature file."""
    for _ in open_signatures(path).blocks(1 << 20):
        pass


def robots(path: Path) -> None:
    """Judge a URL by a robots.txt, and fail if that was not refused."""
    refused = parse_rules(relevant_lines(path.read_bytes())).refuses("http://example.com/" + "a" * 2000)
    raise Gpt2Error(f"robots.txt was read in time: {refused}")


def weights(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file."""
    return len(header).to_bytes(8, "little") + header + data


def warc(block: bytes, claimed: int | None = None) -> bytes:
    """A WARC record of an HTTP response."""
    return b"WARC/1.1\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % (
        len(block) if claimed is None else claimed) + block


def http(body: bytes, coding: str) -> bytes:
    """An HTTP response."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: {coding}\r\n\r\n".encode() + body


def merges(count: int) -> str:
    """Merges as a chain, each of the token before and a letter: tokens grow with their number."""
    letters = list(byte_alphabet().values())
    lines, token = ["#version: 0.2"], letters[0]
    for number in range(count):
        letter = letters[number % 7 + 1]
        lines.append(f"{token} {letter}")
        token += letter
    return "\n".join(lines)


def pairs(count: int) -> dict[str, int]:
    """A table of byte-level tokens with ids: every byte, and `count` triples."""
    letters = list(byte_alphabet().values())
    tokens = letters + [letters[n % 256] + letters[n // 256 % 256] + letters[n // 65536 % 256] for n in range(count)]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def steps(count: int) -> bytes:
    """Metrics of as many runs, each of one step."""
    return b"".join(b'{"schema":"gpt2.step/1","run":"r%d","step":1,"tokens":1,"flops":1,"loss_nats":1.0,"lr":1.0,'
                    b'"lr_phase":"done","grad_norm":1.0}\n' % n for n in range(count))


def claimed_filter() -> bytes:
    """A Bloom filter's sound header for 2^60 bits."""
    fields = asdict(BloomHeader(8, 1 << 60, 8, 1, 0.01, 0, 0, 0, 0, "15.0.0", "0" * 64))
    text = json.dumps({**fields, "header_sha256": json_sha256(fields)}).encode()
    return (BLOOM_START + text + b"\n").ljust(HEADER_BYTES - 1) + b"\n"


SHAPES = {"dtype": "F32", "data_offsets": [0, 4]}
CONFIG = {"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 8, "vocab_size": 300}
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


def bombs() -> dict[str, tuple[str, bytes, Read]]:
    """Return name -> (the file's name, its bytes, what reads it)."""
    zeros = of_zeros(64)  # 1 GiB
    return {
        "a line of 1 GiB in gzip": ("x.gz", zeros, links),
        "a WARC of 1 GiB in gzip": ("x.warc.gz", gzip.compress(b"WARC/1.1\r\n") + zeros, pages),
        "a WARC record that claims 10^17 bytes": ("x.warc", warc(b"x", 10**17), pages),
        "a page of 1 GiB in gzip": ("a.warc", warc(http(zeros, "gzip")), pages),
        "a page of 1 GiB in deflate": ("b.warc", warc(http(zeros[10:-8], "deflate")), pages),
        "an HTTP header without an end": ("d.warc", warc(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000), pages),
        "rules of stars": ("robots.txt", (b"User-agent: *\n" + b"Disallow: /" + b"*a" * 900 + b"$\n") * 400, robots),
        "a header of 2^63 bytes": ("model.safetensors", (1 << 63).to_bytes(8, "little") + b"{}", load),
        "a shape of [0, 2^64 - 1]": ("model.safetensors", weights(json.dumps(
            {"wte.weight": {"dtype": "F32", "shape": [0, 2**64 - 1], "data_offsets": [0, 0]}}).encode()), load),
        "a shape of a million sizes": ("model.safetensors", weights(json.dumps(
            {"wte.weight": {**SHAPES, "shape": [9] * 1_000_000}}).encode(), bytes(4)), load),
        "weights nested 200,000 deep": ("model.safetensors", weights(b'{"a":' + b"[" * 200_000), load),
        "a network of 10^18 numbers": ("config.json", json.dumps(CONFIG | {
            "n_layer": 2**31 - 1, "n_embd": 2**30, "vocab_size": 2**31 - 1}).encode(), load),
        "merges that make tokens of any length": ("vocab.bpe", merges(1_500).encode(), load_and_recover),
        "a vocabulary of 65 MiB": ("big.tiktoken", b"#" * (65 * MIB), load_and_recover),
        "laughs": ("task.yaml", LAUGHS.encode(), lambda path: load_task(str(path), UnicodeLoss())),
        "brackets": ("deep.yaml", b"a: " + b"[" * 2_000, lambda path: load_task(str(path), UnicodeLoss())),
        "a number of a million digits": ("n.jsonl", b'{"a":' + b"9" * 1_000_000 + b"}\n", records),
        "a number of 10^400": ("e.jsonl", b'{"a":1e400}\n', records),
        "a filter of 2^60 bits": ("x.bloom", claimed_filter(), lambda path: BloomFilter.open(
            str(path), Silent())),
        "a detector of 2^62 bytes": ("detector", (1 << 62).to_bytes(8, "little") + DETECTOR_START,
                                     lambda path: read_detector(str(path))),
        "signatures of 10^12 documents": ("x.signatures", json.dumps(
            {"schema": "gpt2.signatures/1", "ngram": 5, "bands": 64, "rows": 64, "similarity": 0.5,
             "documents": 10**12, "lines": 10**12, "input_blake2b": "0"}, separators=(",", ":")).encode()
            + b"\n" + bytes(16), signatures),
        "a model of llm.c's of 10^18 numbers": ("m.bin", struct.pack(
            "<8i", 20240326, 3, 2**30, 2**30, 2**30, 1, 2**30, 2**30).ljust(1024, b"\0"), read_llmc),
        "a table of OpenAI's of 2^60 bytes": ("openai/model.ckpt.index", bytes(8) + b"\xff" * 9 + bytes(23)
                                              + struct.pack("<Q", 0xDB4775248B80FB57), openai),
    }


def slow_bombs() -> dict[str, tuple[str, bytes, Read]]:
    """Return those that take seconds to make or to read, as bombs() does."""
    tokenizer = json.loads(tokenizer_json(small_vocabulary(1)))
    tokenizer["model"] |= {"vocab": pairs(1_000_000), "merges": []}
    million = json.dumps(tokenizer).encode()
    return {
        "a line of 1 GiB in bzip2": ("x.bz2", bz2.compress(bytes(32 * MIB)) * 32, links),
        "a line of 1 GiB in xz": ("x.xz", lzma.compress(bytes(32 * MIB)) * 32, links),
        "a hundred thousand tensors": ("model.safetensors", weights(json.dumps(
            {f"t{n}": {**SHAPES, "shape": [1]} for n in range(100_000)}).encode(), bytes(4)), load),
        "a vocabulary of a million tokens": ("tokenizer.json", million, load_and_recover),
        "curves of 20,000 runs": ("metrics.jsonl", steps(20_000), drawn),
    }


def load(path: Path) -> object:
    """Load a model."""
    if path.name != "config.json":
        (path.parent / "config.json").write_text(json.dumps(CONFIG))
    return load_model(path.parent)


def load_and_recover(path: Path) -> object:
    """Load a vocabulary and rebuild its merges."""
    return recover_merges(load_vocabulary(path))


def openai(path: Path) -> object:
    """Read OpenAI's checkpoint."""
    (path.parent / "hparams.json").write_text(json.dumps(
        {"n_vocab": 300, "n_ctx": 8, "n_embd": 8, "n_head": 1, "n_layer": 1}))
    (path.parent / "model.ckpt.data-00000-of-00001").write_bytes(b"")
    return read_openai(path.parent)


def drawn(path: Path) -> object:
    """Read what plot draws; a terminal's picture of it is as large as the terminal."""
    lines = curves_text(read_drawable([str(path)], Silent()).curves, "tokens", {}, 80, 24).split("\n")
    raise Gpt2Error(f"a picture of {len(lines)} lines, {max(map(len, lines))} columns")


def peak_kib() -> int:
    """The most memory that was resident since it was last asked for, and begin anew."""
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def main() -> None:
    """Try every bomb."""
    place, margin = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    made = bombs() | (slow_bombs() if os.environ.get("FAULTS") == "all" else {})
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + margin,) * 2)
    for number, (name, (file, data, read)) in enumerate(made.items()):
        path = place / f"{number}" / file
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10
        peak_kib()
        said = "nothing"
        try:
            read(path)
        except Gpt2Error as error:
            said = str(error)
        except NoPage as none:
            said = none.reason
        print(json.dumps({"name": name, "said": said, "peak_kib": peak_kib() - resident}), flush=True)


if __name__ == "__main__":
    main()
