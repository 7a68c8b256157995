"""Worker processes that give results in the order of their tasks, however long each takes.

They are forked, so they share the vocabulary with us and begin at once; a task goes only to a worker that waits for
one, so no pipe can block both sides. They end with us, however we end: their pipes do.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, Generic, TypeVar, cast

from gpt2cli.errors import Gpt2Error

Task = TypeVar("Task")
Result = TypeVar("Result")
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AHEAD = 3
"""Tasks per worker that may be in work, or done before their turn."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A task that was done already and only keeps its place in the order."""

    result: Result


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class OrderedPool(Generic[Task, Result]):
    """`workers` processes that apply `work`. A `with` block starts and ends them; begin it before any thread."""

    def __init__(self, workers: int, work: Callable[[Task], Result]) -> None:
        self._workers = workers
        self._work = work
        self._idle: list[Connection[Any, Any]] = []
        self._processes: dict[Connection[Any, Any], ForkProcess] = {}

    def __enter__(self) -> OrderedPool[Task, Result]:
        # An exception from a signal's handler inside fork() would be swallowed there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        try:
            for _ in range(self._workers):
                self._start()
                if signal.sigpending() & set(_STOPPING):  # a thousand forks take seconds; one worker is enough to stop
                    break
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, [*self._processes, ours], self._work), daemon=True)
        try:
            process.start()
        except BlockingIOError:  # EAGAIN
            raise Gpt2Error(f"only {len(self._processes):,} of {self._workers:,} worker processes can be started: no "
                            "more are allowed (ulimit -u); give fewer --jobs, or raise that limit") from None
        theirs.close()
        self._processes[ours] = process
        self._idle.append(ours)

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()
        for connection, process in self._processes.items():
            process.join()
            connection.close()

    def map(self, tasks: Iterable[Task | Done[Result]]) -> Iterator[Result]:
        """Yield the results of `tasks`, in order. Reads ahead by a few tasks for every worker.

        Raises what `work` raised, in its task's turn, and Gpt2Error when a worker died.
        """
        source = iter(tasks)
        slots: collections.deque[_Slot] = collections.deque()
        busy: dict[Connection[Any, Any], _Slot] = {}
        more = True
        while True:
            while more and self._idle and len(slots) < _AHEAD * len(self._processes):
                try:
                    task = next(source)
                except StopIteration:
                    more = False
                    break
                slot = _Slot()
                slots.append(slot)
                if isinstance(task, Done):
                    slot.fill(True, task.result)
                else:
                    connection = self._idle.pop()
                    self._send(connection, task)
                    busy[connection] = slot
            while slots and slots[0].filled:
                yield slots.popleft().value()
            if not slots and not more:
                return
            if busy and not (more and self._idle and len(slots) < _AHEAD * len(self._processes)):
                for ready in cast("list[Connection[Any, Any]]", wait(list(busy))):
                    busy.pop(ready).fill(*self._receive(ready))
                    self._idle.append(ready)

    def _send(self, connection: Connection[Any, Any], task: Task) -> None:
        try:
            connection.send(task)
        except OSError:
            raise self._death(connection) from None

    def _receive(self, connection: Connection[Any, Any]) -> tuple[bool, Any]:
        try:
            good, result = connection.recv()
        except (EOFError, OSError):
            raise self._death(connection) from None
        return good, result

    def _death(self, connection: Connection[Any, Any]) -> Gpt2Error:
        process = self._processes[connection]
        process.join(1)
        code = process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        hint = "; if memory ran out, give fewer --jobs" if code == -signal.SIGKILL else ""
        return Gpt2Error(f"a worker process {how}; nothing was written, run it again{hint}")


class _Slot:
    def __init__(self) -> None:
        self.filled = False
        self._good = False
        self._result: Any = None

    def fill(self, good: bool, result: Any) -> None:
        self.filled, self._good, self._result = True, good, result

    def value(self) -> Any:
        if not self._good:
            raise self._result
        return self._result


def _serve(connection: Connection[Any, Any], inherited: list[Connection[Any, Any]], work: Callable[[Any], Any]) -> None:
    """Answer tasks until the pipe ends. Pipes to other workers are closed: held open they would hide our end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    for other in inherited:
        other.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            try:
                reply = True, work(task)
            except Exception as error:
                reply = False, error
            except BaseException as panic:  # a panic in native code is one
                reply = False, Gpt2Error(f"the native encoder failed: {panic}")
            connection.send(reply)
    os._exit(0)
