"""gpt2 verify: check artefacts against their own digests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import files_argument, force_option, output_option
from gpt2cli.errors import BadInput, Gpt2Error, IOFailure, UsageFault

if TYPE_CHECKING:
    import io
    from pathlib import Path

    from gpt2cli.cli.console import Console
    from gpt2cli.records.verify import Reading, Verdict

NAMED = 3
"""How many of the paths that did not pass the last line names."""


@click.command("verify", cls=Gpt2Command, short_help="Check artefacts against their digests.")
@files_argument("paths", "[PATH]...")
@click.option("--quick", is_flag=True, help="Check structure and sizes only; hash and decode nothing.")
@output_option()
@force_option()
@click.pass_obj
def command(console: Console, paths: tuple[str, ...], quick: bool, output: str, force: bool) -> None:
    """Check token shards, shard sets, records, vocabularies, checkpoints and runs, each known by its content.

    One gpt2.verify/1 record for each PATH; exit status 65 when one is damaged.
    """
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    verdicts: list[tuple[str, Verdict]] = []
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        for path in paths or ("-",):
            verdict = _verdict(path, quick, console)
            writer.write("gpt2.verify", verdict.record(path))
            stream.flush()
            _tell(console, path, verdict)
            verdicts.append((path, verdict))
        if output == "-":
            writer.end()
    _conclude(console, verdicts)


def _tell(console: Console, path: str, verdict: Verdict) -> None:
    for problem in verdict.problems:
        console.warn(problem)
    if not verdict.problems:
        facts = ", ".join(f"{name} {value}" for name, value in verdict.facts.items())
        console.note(f"{path}: sound {verdict.kind}{f' ({facts})' if facts else ''}")


def _conclude(console: Console, verdicts: list[tuple[str, Verdict]]) -> None:
    """Say how many are sound; raise the error of the gravest verdict: damaged, before unreadable, before missing."""
    failed = [(path, verdict) for path, verdict in verdicts if verdict.problems]
    if not failed:
        if len(verdicts) > 1:
            console.note(f"all {len(verdicts)} are sound")
        return
    names = ", ".join(path for path, _ in failed[:NAMED]) + (", ..." if len(failed) > NAMED else "")
    text = f"{len(failed)} of {len(verdicts)} did not pass: {names}"
    statuses = {verdict.status for _, verdict in failed}
    gravest: list[type[Gpt2Error]] = [BadInput, IOFailure, UsageFault]
    raise next(error for error in gravest if error.status in statuses)(text)


def _verdict(path: str, quick: bool, console: Console) -> Verdict:
    from pathlib import Path

    from gpt2cli.records import artefact_kind as kinds
    from gpt2cli.records.streams import display_name, open_raw_input
    from gpt2cli.records.verify import Reading, Verdict, watched

    name = display_name(path)
    if path != "-" and not os.path.exists(path):
        link = f": it is a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else ""
        return Verdict(kinds.MISSING, [f"there is no {path}{link}"])
    try:
        directory = _directory(path)
        if directory:
            return _verdict_on_directory(Path(directory), quick, Reading(console, directory))
        with open_raw_input(path) as raw:
            regular = path != "-" and os.path.isfile(path)
            reading = Reading(console, name, os.path.getsize(path) if regular else None)
            return _verdict_on_stream(watched(raw, reading), name, quick, reading.total)
    except OSError as error:
        return Verdict(kinds.UNREADABLE, [f"{error.filename or name}: {error.strerror or error}"])


def _directory(path: str) -> str | None:
    """Return the directory to check: `path` itself, or that of an index, manifest or run record."""
    from pathlib import Path

    from gpt2cli.records import artefact_kind as kinds

    if os.path.isdir(path):
        return path
    above = os.path.dirname(path) or "."
    owners = {"index.json": (kinds.SHARD_SET,), "run.json": (kinds.RUN_DIRECTORY,),
              "manifest.json": (kinds.CHECKPOINT, kinds.RUN_DIRECTORY)}
    return above if kinds.kind_of_directory(Path(above)) in owners.get(os.path.basename(path), ()) else None


def _verdict_on_directory(path: Path, quick: bool, reading: Reading) -> Verdict:
    from gpt2cli.records import artefact_kind as kinds
    from gpt2cli.records import verify_models, verify_shards
    from gpt2cli.records.verify import Verdict
    from gpt2cli.tokens.check_vocabulary import verify_vocabulary

    kind = kinds.kind_of_directory(path)
    if kind == kinds.SHARD_SET:
        return verify_shards.verify_shard_set(path, reading, quick=quick)
    if kind == kinds.RUN_DIRECTORY:
        return verify_models.verify_run(path, reading, quick=quick)
    if kind == kinds.CHECKPOINT:
        return verify_models.verify_one_checkpoint(path, reading, quick=quick)
    if kind == kinds.MODEL:
        return verify_models.verify_model(path)
    foreign = kinds.foreign_model(path)
    if foreign is not None:
        return Verdict(kinds.UNKNOWN, [f"{path} is no artefact of gpt2's: it holds {foreign}"])
    return verify_vocabulary(path)


def _verdict_on_stream(stream: io.BufferedReader, name: str, quick: bool, size: int | None) -> Verdict:
    """Check a file or pipe by its first bytes; `size` is None for a pipe, which is always read to its end."""
    from pathlib import Path
    from typing import BinaryIO, cast

    from gpt2cli.records import artefact_kind as kinds
    from gpt2cli.records.verify import Verdict, verify_records
    from gpt2cli.records.verify_models import verify_weights
    from gpt2cli.records.verify_shards import verify_shard, verify_shard_quickly
    from gpt2cli.tokens.check_vocabulary import verify_vocabulary, verify_vocabulary_stream

    regular = size is not None
    start = stream.peek(kinds.PEEK)[: kinds.PEEK]
    kind = kinds.kind_of_start(start, name)
    if kind == kinds.SHARD:
        return verify_shard_quickly(Path(name)) if quick and regular else verify_shard(cast(BinaryIO, stream), name)
    if kind == kinds.BLOOM:
        from gpt2cli.overlap.check_bloom import verify_bloom

        return verify_bloom(cast(BinaryIO, stream), name, quick and regular)
    if kind == kinds.RECORDS:
        return verify_records(stream, name)
    if kind == kinds.VOCABULARY:
        return verify_vocabulary(Path(name)) if regular else verify_vocabulary_stream(cast(BinaryIO, stream), name)
    if kind == kinds.DETECTOR:
        from gpt2cli.detection.detector_file import verify_detector

        return verify_detector(cast(BinaryIO, stream), name)
    if kind == kinds.WEIGHTS:
        return verify_weights(cast(BinaryIO, stream), name, size)
    if kind == kinds.EMPTY:
        return Verdict(kind, [f"{name} is empty: there is nothing to check"])
    return Verdict(kind, [f"{name} is no artefact of gpt2's: it is {kinds.describe_foreign(start)}"])
