"""gpt2 doctor: what this machine and this installation can do, and what to fix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.environment import known_variables, unread
from gpt2cli.errors import Gpt2Error, counted

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console
    from gpt2cli.doctor.finding import Finding

MARKS = {"good": "  ok", "note": "note", "bad": " BAD"}


@click.command("doctor", cls=Gpt2Command, short_help="What this machine and installation can do, and what to fix.")
@click.argument("directory", default=".", metavar="[DIRECTORY]", type=click.Path())
@click.option("--quick", is_flag=True, help="Look only: time nothing, compile nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write gpt2.doctor/1 records instead of lines for people.")
@click.pass_obj
def command(console: Console, directory: str, quick: bool, as_json: bool) -> None:
    """Examine versions, threads, processor, memory, the disk of DIRECTORY (default: this one), limits, the compiler.

    Exit status 1 when something was found that a command will fail for.
    """
    from gpt2cli.doctor.examine import examine
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    states = []
    with open_output("-") as stream:
        writer = RecordWriter(stream)
        topic = ""
        for finding in _with_environment(examine(directory, not quick, console)):
            states.append(finding.state)
            if as_json:
                writer.write("gpt2.doctor", finding.record())
            else:
                stream.write(_lines(finding, topic).encode())
                topic = finding.topic
            stream.flush()
        if as_json:
            writer.end()
    if "bad" in states:
        raise Gpt2Error(f"{counted(states.count('bad'), 'finding')} marked BAD: commands will fail there")
    console.note(f"nothing is wrong; {counted(states.count('note'), 'note')}" if "note" in states
                 else "nothing is wrong")


def _with_environment(findings: Iterator[Finding]) -> Iterator[Finding]:
    from gpt2cli.doctor.finding import Finding

    yield from findings
    strange = unread(os.environ, known_variables())
    for name, like in strange.items():
        yield Finding("environment", name, "is set, and no command reads it", "note",
                      f"was {like} meant?" if like else "gpt2(1) says how variables are named")
    if not strange:
        names = sorted(name for name in os.environ if name.startswith("GPT2_"))
        yield Finding("environment", "GPT2_* variables", ", ".join(names) or "none is set")


def _lines(finding: Finding, topic: str) -> str:
    from gpt2cli.cli.console import harmless

    head = "" if finding.topic == topic else f"{finding.topic}\n"
    advice = f"\n{'':<32}-> {finding.advice}" if finding.advice else ""
    text = f"{head}{MARKS[finding.state]}  {finding.name:<24}  {finding.value}{advice}\n"
    return harmless(text)
