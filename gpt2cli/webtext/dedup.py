"""Step 5: documents -> those of them that duplicate no other, in their order.

Signatures are made input by input, merged in the order of precedence, and joined to sets: exact duplicates by a hash
of their normalised text, near ones by bands of their signatures. The first by precedence of every set survives. Memory
is bounded; what there is of documents stands in files, sorted externally. The result is a function of the documents
alone: neither their order nor the number of processes, machines or files changes who survives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import BadInput, UsageFault, counted
from gpt2cli.records.atomic import atomic_file
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.records.streams import display_name, open_output
from gpt2cli.reporter import Reporter, Silent
from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES, DedupProfile
from gpt2cli.webtext.dedup_space import temporary_space, work_space
from gpt2cli.webtext.document_lines import input_lines
from gpt2cli.webtext.duplicates import Duplicates
from gpt2cli.webtext.near_duplicates import join_near
from gpt2cli.webtext.ranked_documents import join_exact, rank_documents
from gpt2cli.webtext.sign_documents import sign, spooled
from gpt2cli.webtext.signature_file import SignatureFile, open_signatures
from gpt2cli.webtext.survivors import DropList, write_survivors
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.union_find import UnionFind

Paths = Sequence[str | os.PathLike[str]]
MEMORY = 256 << 20


@dataclass(frozen=True)
class DedupConfig:
    """What a duplicate is, the bytes of memory to sort in, the processes, and where a run's state is kept (or not)."""

    profile: DedupProfile = DEDUP_PROFILES["openwebtext"]
    memory: int = MEMORY
    jobs: int = 1
    work: Path | None = None


@dataclass(frozen=True)
class _Source:
    """An input that is read twice: a file, or a stream and the file that its lines are kept in meanwhile."""

    name: str
    path: Path
    stream: Iterable[bytes] | None = None

    def first(self, reporter: Reporter) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        return self._spooled(self.stream) if self.stream is not None else contextlib.nullcontext(
            input_lines(self.path, reporter))

    @contextlib.contextmanager
    def _spooled(self, stream: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
        with open_output(self.path) as file:
            yield spooled(stream, file)

    def second(self) -> Iterator[bytes]:
        return input_lines(self.path, Silent())


def dedup(
    inputs: Paths | Iterator[bytes],
    sink: RecordWriter,
    tally: StepTally,
    config: DedupConfig,
    reporter: Reporter,
) -> None:
    """Write the documents of `inputs` that duplicate no other to `sink` as gpt2.document/1; the rest go to `tally`.

    inputs: files of documents (`-`: stdin), JSONL, zstd or plain; or the lines of one (bytes, with or without LF).
    Raises BadInput for malformed input, Interrupted when asked to stop, OSError from the file system.
    """
    with contextlib.ExitStack() as stack:
        scratch, state = (stack.enter_context(work_space(config.work)) if config.work is not None
                          else (stack.enter_context(temporary_space()), None))
        sources = _sources(inputs, scratch, reporter)
        files = [_signatures(source, scratch, state, config, reporter) for source in sources]
        ranked = stack.enter_context(contextlib.closing(rank_documents(files, scratch, config.memory, reporter)))
        sets = stack.enter_context(UnionFind(ranked.documents, scratch / "sets"))
        join_exact(ranked, sets, scratch, config.memory)
        for _ in join_near(ranked, sets, scratch, config.memory, reporter):
            pass
        duplicates = Duplicates(ranked, sets, scratch, config.memory, reporter)
        drops = DropList(duplicates)
        for part, (source, file) in enumerate(zip(sources, files, strict=True)):
            write_survivors(part, source.second(), source.name, file.facts.input_blake2b, drops, sink, tally, reporter)
        reporter.note(f"{tally.line()}, {counted(duplicates.clusters, 'cluster')}")


def _sources(inputs: Paths | Iterator[bytes], scratch: Path, reporter: Reporter) -> list[_Source]:
    if isinstance(inputs, Iterator):
        return [_Source("the documents", scratch / "documents.zst", inputs)]
    sources = []
    for number, path in enumerate(inputs):
        if str(path) == "-" or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)):
            lines = input_lines(path, reporter)
            sources.append(_Source(display_name(path), scratch / f"documents-{number}.zst", lines))
        else:
            sources.append(_Source(str(path), Path(path)))
    for source in sources:
        if source.stream is None and not source.path.is_file():
            raise UsageFault(f"{source.path} is a directory; name the files in it" if source.path.is_dir()
                             else f"there is no {source.path}")
    return sources


def _signatures(source: _Source, scratch: Path, state: Path | None, config: DedupConfig, reporter: Reporter
                ) -> SignatureFile:
    """Return the signature file of an input: the one that an earlier run finished, else a new one."""
    if source.stream is not None or state is None:
        path = scratch / f"signatures-{len(list(scratch.glob('signatures-*')))}"
    else:
        path = state / _identity(source.path, config.profile)
        with contextlib.suppress(BadInput, UsageFault):
            return open_signatures(path)
    with source.first(reporter) as lines, atomic_file(path) as file:
        sign(lines, source.name, file, config.profile, workers=config.jobs, memory=config.memory, scratch=scratch,
             reporter=reporter)
    return open_signatures(path)


def _identity(path: Path, profile: DedupProfile) -> str:
    """Return a name for the signatures of a file as it is now: its path, size, time of change, and the profile."""
    facts = path.stat()
    known = [str(path.resolve()), facts.st_size, facts.st_mtime_ns, dataclasses.astuple(profile)]
    return hashlib.blake2b(json.dumps(known).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
