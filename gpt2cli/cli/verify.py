"""gpt2 verify: check artefacts against their own digests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import files_argument, force_option, output_option
from gpt2cli.errors import BadInput, UsageFault

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console
    from gpt2cli.records.verify import Verdict


@click.command("verify", cls=Gpt2Command, short_help="Check artefacts against their digests.")
@files_argument("paths", "[PATH]...")
@output_option()
@force_option()
@click.pass_obj
def command(console: Console, paths: tuple[str, ...], output: str, force: bool) -> None:
    """Check token shards, shard sets, records, vocabularies, checkpoints and runs, each known by its content.

    One gpt2.verify/1 record for each PATH; exit status 65 when one is damaged.
    """
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    for path in paths:
        if path != "-" and not os.path.lexists(path):
            raise UsageFault(f"there is no {path}")
    damaged = []
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        for path in paths or ("-",):
            verdict = _verdict(path)
            writer.write("gpt2.verify", verdict.record(path))
            _tell(console, path, verdict)
            if verdict.problems:
                damaged.append(path)
        if output == "-":
            writer.end()
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise BadInput(f"{damaged[0]}{more} did not pass")


def _tell(console: Console, path: str, verdict: Verdict) -> None:
    for problem in verdict.problems:
        console.warn(problem)
    if not verdict.problems:
        facts = ", ".join(f"{name} {value}" for name, value in verdict.facts.items())
        console.note(f"{path}: sound {verdict.kind}{f' ({facts})' if facts else ''}")


def _verdict(path: str) -> Verdict:
    import io
    from pathlib import Path
    from typing import BinaryIO, cast

    from gpt2cli.records import verify
    from gpt2cli.records.streams import display_name, open_raw_input
    from gpt2cli.tokens.check_vocabulary import verify_vocabulary

    if os.path.basename(path) in ("index.json", "manifest.json"):
        path = os.path.dirname(path) or "."
    if os.path.isdir(path):
        kind = verify.kind_of_directory(Path(path))
        checks = {verify.SHARD_SET: verify.verify_shard_set, verify.VOCABULARY: verify_vocabulary}
        return checks.get(kind, verify.verify_model)(Path(path))
    name = display_name(path)
    with open_raw_input(path) as raw:
        stream = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
        kind = verify.kind_of_stream(stream)
        if kind == verify.SHARD:
            return verify.verify_shard(cast(BinaryIO, stream), name)
        if kind == verify.RECORDS and not (path != "-" and _is_tokenizer_json(path)):
            return verify.verify_records(stream, name)
    if path == "-":
        return verify.Verdict("unknown", [f"{name} is neither a token shard nor records; name the file"])
    return verify_vocabulary(Path(path))


def _is_tokenizer_json(path: str) -> bool:
    return os.path.basename(path) == "tokenizer.json"
