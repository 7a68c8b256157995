"""Whether token shards and shard sets are sound: read to their end, or (quick) opened and measured only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.records.artefact_kind import SHARD, SHARD_SET
from gpt2cli.records.named_file import NamedFile
from gpt2cli.records.packing import row_problems
from gpt2cli.records.shard import ShardFile, ShardReader
from gpt2cli.records.shard_set import (
    INDEX_NAME,
    SPLITS,
    ShardEntry,
    ShardSet,
    file_problem,
    read_shard_set,
)
from gpt2cli.records.verify import Reading, Verdict, watched

_WAITING = 32
"""How many pieces of work the digesting thread may be behind."""


def verify_shard(stream: BinaryIO, name: str) -> Verdict:
    """Read a shard (or joined shards) to its end: every checksum, digest, count, and the document index."""
    try:
        facts = _read_through(stream, name, lambda tokens: None)
    except Gpt2Error as error:
        return Verdict(SHARD, [str(error)])
    facts.pop("tokens_sha256")
    return Verdict(SHARD, facts=facts)


def verify_shard_quickly(path: Path) -> Verdict:
    """Check a shard's header, footer, seek table and length, without decoding its frames."""
    try:
        with ShardFile(path) as shard:
            facts = {"tokens": shard.n_tokens, "documents": shard.footer.documents,
                     "text_bytes": shard.footer.text_bytes, "tokenizer_sha256": shard.header.tokenizer_sha256}
    except Gpt2Error as error:
        return Verdict(SHARD, [str(error)])
    return Verdict(SHARD, facts=facts)


def _read_through(stream: BinaryIO, name: str, take: Callable[[np.ndarray], None]) -> dict[str, Any]:
    reader = ShardReader(stream, name)
    lengths, held = [], 0
    for tokens in reader.frames():
        take(tokens)
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
        "tokens_sha256": reader.footers[0].sha256 if len(reader.footers) == 1 else "",
    }


def verify_shard_set(path: Path, reading: Reading, *, quick: bool = False) -> Verdict:
    """Check an index against the sizes, digests and contents of all its files; `quick`: against their structure."""
    try:
        shards = read_shard_set(path)
    except Gpt2Error as error:
        return Verdict(SHARD_SET, [str(error)])
    reading.total = sum(entry.bytes for entry in shards.entries)
    check = _check_structure if quick else _check_contents
    problems = check(shards, reading) or row_problems(shards)
    facts: dict[str, Any] = {f"{split}_tokens": shards.n_tokens(split) for split in SPLITS}
    return Verdict(SHARD_SET, problems, {**facts, "files": len(shards.entries), "data_sha256": shards.data_sha256})


def _check_structure(shards: ShardSet, reading: Reading) -> list[str]:
    problems = []
    for entry in shards.entries:
        problem = file_problem(shards, entry)
        try:
            if problem is None:
                shards.open_file(entry).close()
        except BadInput as error:
            problem = str(error)
        if problem:
            problems.append(problem)
        reading.advance(entry.bytes)
    return problems


def _check_contents(shards: ShardSet, reading: Reading) -> list[str]:
    problems: list[str] = []
    with _Digests() as digests:
        for split in SPLITS:
            digest = hashlib.sha256()
            broken = [text for entry in shards.files(split)
                      if (text := _check_file(shards, entry, reading, digests, digest))]
            digests.wait()
            if not broken and digest.hexdigest() != shards.index["splits"][split]["sha256"]:
                broken = [f"{shards.directory}: the tokens of {split} are not those that {INDEX_NAME} names; "
                          "pack again"]
            problems += broken
    return problems


def _check_file(shards: ShardSet, entry: ShardEntry, reading: Reading, digests: _Digests, digest: Any) -> str | None:
    if problem := file_problem(shards, entry):
        return problem
    path = shards.directory / entry.name
    whole = hashlib.sha256()
    with NamedFile(path) as file:
        stream = watched(cast(BinaryIO, _Copying(file, lambda data: digests.add(whole, data))), reading)
        try:
            found = _read_through(cast(BinaryIO, stream), str(path), lambda tokens: digests.add(digest, tokens))
        except BadInput as error:
            return str(error)
    told = {"tokens": entry.tokens, "documents": entry.documents, "text_bytes": entry.text_bytes,
            "tokenizer_sha256": shards.tokenizer_sha256, "tokens_sha256": entry.tokens_sha256}
    if found != told:
        return f"{path} is sound but is not the file that {INDEX_NAME} lists; pack again"
    digests.wait()
    if whole.hexdigest() != entry.sha256:
        return f"{path} holds the right tokens, but its bytes are not those that {INDEX_NAME} lists; pack again"
    return None


class _Copying:
    """A file whose bytes are also given to a function as they are read."""

    def __init__(self, file: Any, take: Callable[[bytes], None]) -> None:
        self._file = file
        self._take = take

    def readinto(self, buffer: Any) -> int:
        size: int = self._file.readinto(buffer) or 0
        self._take(bytes(memoryview(buffer)[:size]))
        return size


class _Digests:
    """Updates digests in a thread of its own, in order, while the next frames are decoded (both without the GIL)."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []

    def add(self, digest: Any, data: Any) -> None:
        """Update `digest` with a buffer that nobody changes any more."""
        self._waiting.append(self._pool.submit(digest.update, data))
        if len(self._waiting) > _WAITING:
            self._waiting.pop(0).result()

    def wait(self) -> None:
        """Return when all is taken in."""
        while self._waiting:
            self._waiting.pop(0).result()

    def __enter__(self) -> _Digests:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
