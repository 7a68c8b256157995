"""Who does the tasks of a whole crawl: this process one after another, or a Ray cluster (ray_engine.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from gpt2cli.errors import Interrupted
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.finished_tasks import Finished, Task, perform

STOPPED = "stopped; what is finished is kept in {place}, and the same command goes on from there"


class Engine(Protocol):
    """Does tasks that don't depend on each other."""

    jobs: int
    """Processes that one task may use."""
    shares: int
    """Ranges of band keys that are worth a task each; 1: none is."""

    def perform(self, tasks: Sequence[Task], place: Path, with_rejects: bool, reporter: Reporter) -> Iterator[Finished]:
        """Do the tasks and yield what each came to, in their order.

        Raises what a task raises, and Interrupted when the reporter says stop.
        """


class LocalEngine:
    """Does one task after another, each with `jobs` processes."""

    shares = 1

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def perform(self, tasks: Sequence[Task], place: Path, with_rejects: bool, reporter: Reporter) -> Iterator[Finished]:
        """Do the tasks here; see Engine."""
        for task in tasks:
            if reporter.stopping():
                raise Interrupted(STOPPED.format(place=place))
            yield perform(task, place, with_rejects, reporter)
