"""The whole examination, topic by topic."""

from __future__ import annotations

from collections.abc import Iterator

from gpt2cli.doctor.compiler import compiler
from gpt2cli.doctor.disk import disk
from gpt2cli.doctor.finding import Finding
from gpt2cli.doctor.limits import limits
from gpt2cli.doctor.memory import memory
from gpt2cli.doctor.processor import processor
from gpt2cli.doctor.software import software
from gpt2cli.errors import Interrupted
from gpt2cli.reporter import Reporter


def examine(directory: str, measure: bool, reporter: Reporter) -> Iterator[Finding]:
    """Yield every finding, as soon as it is there; without `measure` nothing is timed, nor compiled.

    directory: whose disk is looked at. Raises Interrupted between findings when a signal asks to stop.
    """
    for finding in _findings(directory, measure):
        if reporter.stopping():
            raise Interrupted
        yield finding


def _findings(directory: str, measure: bool) -> Iterator[Finding]:
    yield from software()
    yield from processor(measure)
    yield from memory()
    yield from disk(directory, measure)
    yield from limits()
    yield from compiler(measure)
