"""The formats that are written, as the code names them, and readers of the file that is kept of each version."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

import gpt2cli
from gpt2cli.detection import detector_file
from gpt2cli.detection.detector_file import read_detector
from gpt2cli.model.weights import read_weights
from gpt2cli.overlap.bloom import BloomFilter
from gpt2cli.records.checkpoint import read_json, resolve_model, verify_checkpoint
from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.records.schemas import SCHEMAS
from gpt2cli.records.shard_file import ShardFile
from gpt2cli.records.shard_set import SPLITS, load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.sizes import ModelShape
from gpt2cli.webtext import crawl_tables
from gpt2cli.webtext.crawl_state import CrawlState
from gpt2cli.webtext.signature_file import open_signatures

RELEASED = Path(__file__).parent / "released"
WITHIN = {"gpt2.shard-footer": "gpt2.shard"}
"""Formats that exist only within a file of another."""
NO_FORMAT = {"gpt2.n_vocab", "gpt2.eot", "gpt2.verbose", "gpt2.quiet", "gpt2.tokenizer_sha256"}
_CONSTANT = re.compile(r"""["'](?:(gpt2[.-][a-z-]+)/([0-9]+)(?:\\n)?|(gpt2\.[a-z_-]+))["']""")
_FILE = re.compile(r"(gpt2[.-][a-z-]+)-([0-9]+)(?:\..+)?")
SHAPE = ModelShape(1, 1, 8, 16, 270)


@functools.cache
def formats_of_the_code() -> dict[str, int]:
    """Return the version that is written of every format: record kinds, and constants of the source like NAME/2.

    A format whose name and version are two constants is named by KIND or FORMAT; a new one belongs in `pairs` below.
    """
    pairs = {detector_file.KIND: detector_file.VERSION, crawl_tables.FORMAT: crawl_tables.VERSION}
    found = {kind: version for kind, (version, _) in SCHEMAS.items()} | pairs
    for path in Path(gpt2cli.__file__).parent.rglob("*.py"):
        for kind, version, name in _CONSTANT.findall(path.read_text(encoding="utf-8")):
            if version:
                found[kind] = max(found.get(kind, 0), int(version))
            elif name not in NO_FORMAT:
                found.setdefault(name, 0)  # of no known version: nothing can be kept of it
    return found


def released() -> dict[tuple[str, int], Path]:
    """Return the files that are kept, by format and version."""
    found = {}
    for path in sorted(RELEASED.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match:
            found[match[1], int(match[2])] = path
    return found


def read(kind: str, path: Path, place: Path) -> Any:
    """Return what a kept file holds, as JSON, by the program's own readers; `place` is for what must be unpacked."""
    reader = {"gpt2.shard": _shard, "gpt2.shards": _shards, "gpt2.signatures": _signatures, "gpt2-bloom": _bloom,
              "gpt2.detector": _detector, "gpt2.checkpoint": _run, "gpt2.quantised": _quantised}.get(kind, _records)
    return _crawl(unpacked(path, place)) if kind == crawl_tables.FORMAT else reader(path)


def unpacked(path: Path, place: Path) -> Path:
    """Return the path of a kept zstd file's content, in `place`."""
    made = place / path.name.removesuffix(".zst")
    made.write_bytes(zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=1 << 20))
    return made


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _records(path: Path) -> Any:
    tally = ReadTally()
    found = list(read_records(path, tally))
    assert found and not tally.skipped and not tally.warnings
    return [_sha256(json.dumps(record, sort_keys=True).encode()) for record in found]


def _shard(path: Path) -> Any:
    with ShardFile(path) as shard:
        tokens = shard.read(0, shard.n_tokens)
        return {"tokens": _sha256(tokens.astype("<u4").tobytes()), "lengths": shard.footer.lengths().tolist(),
                "n_vocab": shard.header.n_vocab, "eot": shard.header.eot, "vocabulary": shard.header.tokenizer_sha256}


def _shards(path: Path) -> Any:
    shards = load_shard_set(path)
    shards.check_structure()
    found: dict[str, Any] = {"data_sha256": shards.data_sha256}
    for split in SPLITS:
        with shards.open(split) as tokens:
            found[split] = _sha256(tokens.read(0, len(tokens)).astype("<u4").tobytes())
    return found


def _signatures(path: Path) -> Any:
    file = open_signatures(path)
    rows = b"".join(block.tobytes() for block in file.blocks(100))
    return {"profile": asdict(file.profile), "facts": asdict(file.facts), "rows": _sha256(rows)}


def _bloom(path: Path) -> Any:
    opened = BloomFilter.open(str(path), Silent())
    hashes = np.random.default_rng(0).integers(0, 2**63, (10_000, 2), dtype=np.uint64)
    return {"header": asdict(opened.header), "held": int(opened.holds(hashes).sum())}


def _detector(path: Path) -> Any:
    found = read_detector(str(path))
    assert found.tfidf is not None
    return {"method": found.method, "words": found.words, "platt": asdict(found.platt), "known": len(found.known),
            "terms": _sha256("\n".join(found.tfidf.terms).encode()), "idf": _sha256(found.tfidf.idf.tobytes()),
            "coefficients": _sha256(found.tfidf.coefficients.tobytes()), "intercept": found.tfidf.intercept}


def _weights(path: Path) -> str:
    tensors = read_weights(path, SHAPE)
    return _sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors)))


def _run(path: Path) -> Any:
    assert verify_checkpoint(path) == []
    source = resolve_model(str(path), _refuse)
    position = read_json(source.directory / "training" / "state.json")
    return {"run": source.run, "step": source.step, "tokens": source.tokens, "flops": source.flops,
            "weights": _weights(source.directory / "model.safetensors"), "position": position}


def _quantised(path: Path) -> Any:
    from gpt2cli.model.quantised import widened
    from gpt2cli.model.quantised_files import QUANTISED, read_quantisation, read_quantised

    source = resolve_model(str(path), _refuse)
    form = read_quantisation(read_json(path / "config.json"), path / "config.json", SHAPE)
    assert form is not None
    tensors = widened(read_quantised(path / QUANTISED, SHAPE, form), form)
    return {"bits": form.bits, "step": source.step,
            "weights": _sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors)))}


def _crawl(path: Path) -> Any:
    state = CrawlState(path)
    try:
        hosts = [asdict(host) | {"saved": sorted(host.saved)} for host in state.hosts_after(0, 99, 99)]
        robots = [state.robots(host["id"], origin) for host in hosts for origin in host["saved"]]
        return {"hosts": hosts, "robots": robots, "pages": state.pages(range(99)), "warc": state.warc_bytes()}
    finally:
        state.close()


def _refuse(text: str) -> None:
    raise AssertionError(text)
