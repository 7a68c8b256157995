"""Whether artefacts are sound: token shards, shard sets, JSONL records, checkpoints and runs.

Every check returns a Verdict instead of raising, so that one damaged file does not hide the next.
Vocabularies are checked where they are understood, in tokens.check_vocabulary.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.records.checkpoint import MANIFEST, checkpoints_of, verify_checkpoint
from gpt2cli.records.jsonl import ReadTally, Record, parse_records
from gpt2cli.records.provenance import file_sha256
from gpt2cli.records.shard import ShardReader
from gpt2cli.records.shard_format import HEADER_MAGIC
from gpt2cli.records.shard_set import INDEX_NAME, SPLITS, ShardEntry, ShardSet, load_shard_set
from gpt2cli.records.streams import SKIPPABLE_MAGICS, ZSTD_MAGIC, decompressed

SHARD, SHARD_SET, RECORDS, CHECKPOINT, RUN, VOCABULARY = (
    "shard", "shard set", "records", "checkpoint", "run", "vocabulary")


@dataclass(frozen=True)
class Verdict:
    """What was found: kind of artefact, problems as sentences (none: it is sound), and a few counts."""

    kind: str
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def record(self, path: str) -> Record:
        """Return the fields of a gpt2.verify/1 record."""
        return {"path": path, "ok": not self.problems, "kind": self.kind, "problems": self.problems,
                "facts": self.facts}


def kind_of_directory(path: Path) -> str:
    """Return what a directory is by the files it holds; without any of ours, a VOCABULARY (tokenizer files)."""
    if (path / INDEX_NAME).is_file():
        return SHARD_SET
    if (path / "checkpoints").is_dir() or (path / "run.json").is_file():
        return RUN
    if (path / MANIFEST).is_file() or (path / "model.safetensors").is_file():
        return CHECKPOINT
    return VOCABULARY


def kind_of_stream(stream: io.BufferedReader) -> str:
    """Return what a byte stream holds, by its first bytes and without taking any."""
    start = stream.peek(4)[:4]
    if start == HEADER_MAGIC.to_bytes(4, "little"):
        return SHARD
    if start[:1] == b"{" or start == ZSTD_MAGIC or start in SKIPPABLE_MAGICS:
        return RECORDS
    return VOCABULARY


def verify_shard(stream: BinaryIO, name: str) -> Verdict:
    """Read a shard (or joined shards) to its end: every checksum, digest, count, and the document index."""
    try:
        facts = _read_through(stream, name, hashlib.sha256())
    except Gpt2Error as error:
        return Verdict(SHARD, [str(error)])
    facts.pop("tokenizer_sha256")
    return Verdict(SHARD, facts=facts)


def _read_through(stream: BinaryIO, name: str, digest: Any) -> dict[str, Any]:
    reader = ShardReader(stream, name)
    lengths, held = [], 0
    for tokens in reader.frames():
        digest.update(tokens.tobytes())
        ends = np.flatnonzero(tokens == reader.header.eot) + 1
        if len(ends):
            lengths.append(np.diff(ends, prepend=-held))
            held = len(tokens) - int(ends[-1])
        else:
            held += len(tokens)
    found = np.concatenate([*lengths, np.zeros(0, dtype=np.int64)])
    told = np.concatenate([footer.lengths() for footer in reader.footers])
    if not np.array_equal(found, told):
        raise BadInput(f"{name}: the document index does not match the documents; make the shard again")
    known = [footer.text_bytes for footer in reader.footers if footer.text_bytes is not None]
    return {
        "tokens": sum(footer.tokens for footer in reader.footers), "documents": len(told),
        "text_bytes": sum(known) if len(known) == len(reader.footers) else None,
        "tokenizer_sha256": reader.header.tokenizer_sha256,
    }


def verify_shard_set(path: Path) -> Verdict:
    """Check an index against the sizes, digests and contents of all its files."""
    try:
        shards = load_shard_set(path)
    except Gpt2Error as error:
        return Verdict(SHARD_SET, [str(error)])
    problems: list[str] = []
    for split in SPLITS:
        digest = hashlib.sha256()
        broken = [text for entry in shards.files(split) for text in _check_entry(shards, entry, digest)]
        if not broken and digest.hexdigest() != shards.index["splits"][split]["sha256"]:
            broken = [f"{path}: the tokens of {split} are not those that {INDEX_NAME} names; pack again"]
        problems += broken
    facts = {f"{split}_tokens": shards.n_tokens(split) for split in SPLITS}
    return Verdict(SHARD_SET, problems, {**facts, "data_sha256": shards.data_sha256})


def _check_entry(shards: ShardSet, entry: ShardEntry, digest: Any) -> list[str]:
    file = shards.directory / entry.name
    try:
        with open(file, "rb") as stream:
            found = _read_through(stream, str(file), digest)
    except BadInput as error:
        return [str(error)]
    told = {"tokens": entry.tokens, "documents": entry.documents, "text_bytes": entry.text_bytes,
            "tokenizer_sha256": shards.tokenizer_sha256}
    if found != told or file_sha256(file) != entry.sha256:
        return [f"{file} is sound but is not the file that {INDEX_NAME} lists; pack again"]
    return []


def verify_records(stream: io.BufferedReader, name: str) -> Verdict:
    """Read JSONL to its end: syntax, schemas, end records, and each document's id against its text."""
    tally = ReadTally()
    problems: list[str] = []
    wrong = 0
    try:
        lines = decompressed(cast(BinaryIO, stream), name)
        for number, record in enumerate(parse_records(lines, name, tally, foreign=True), 1):
            if str(record.get("schema", "")).startswith("gpt2.document/") and not _is_named_by_its_text(record):
                wrong += 1
                if wrong == 1:
                    problems.append(f"{name}: the id of record {number} is not the sha256 of its text")
    except Gpt2Error as error:
        problems.append(str(error))
    if wrong > 1:
        problems.append(f"{name}: {wrong:,} documents in all are not what their ids say")
    return Verdict(RECORDS, problems + tally.warnings, {"records": tally.records})


def _is_named_by_its_text(record: Record) -> bool:
    text = record["text"]
    return isinstance(text, str) and hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == record["id"]


def verify_model(path: Path) -> Verdict:
    """Check a checkpoint's files, or a run's: every finished checkpoint and, when the run is done, its manifest."""
    if kind_of_directory(path) == CHECKPOINT:
        return Verdict(CHECKPOINT, verify_checkpoint(path))
    found = checkpoints_of(path)
    finished = (path / MANIFEST).is_file()
    problems = [text for checkpoint in found for text in verify_checkpoint(checkpoint)]
    if finished:
        problems += verify_checkpoint(path)
    return Verdict(RUN, problems, {"checkpoints": len(found), "finished": finished})
