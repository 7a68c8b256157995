"""A Ray cluster as the engine of a whole crawl: every task wherever a core is free, one core each.

Ray carries tasks and what they came to; pages and documents go through the work directory, which all machines see. A
task whose machine is lost is done again elsewhere, from its beginning or, of fetching, from what its state has.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from gpt2cli.errors import Gpt2Error, Interrupted, UsageFault
from gpt2cli.reporter import Reporter, Silent
from gpt2cli.webtext.engines import STOPPED
from gpt2cli.webtext.finished_tasks import Finished, Task, perform

_POLL_S = 0.2
_CONNECT_S = 10.0
_MOST_SHARES = 64
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RayEngine:
    """Use in a `with` block, which connects and disconnects.

    address: of a running cluster (`auto`, HOST:PORT, ray://...), None: one of `workers` cores is started on this
    machine, on its loopback interface, and ended again. Raises UsageFault without Ray, or without the cluster.
    """

    jobs = 1

    def __init__(self, address: str | None, workers: int) -> None:
        try:
            import ray
        except ImportError:
            raise UsageFault("--engine ray needs Ray, which is not installed: pip install 'gpt2cli[ray]'") from None
        self._ray: Any = ray
        self._address = address
        self._workers = workers
        self.shares = 1

    def __enter__(self) -> RayEngine:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        own: dict[str, Any] = {"num_cpus": self._workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1",
                               "object_store_memory": 128 << 20}
        if self._address is not None:
            _check_reachable(self._address)
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        try:
            self._ray.init(address=self._address or "local", logging_level="error", log_to_driver=False,
                           **({} if self._address else own))
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageFault(f"no Ray cluster at {self._address or 'this machine'}: {said[:200]}") from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray sets its own, which would end us without saving
        self.shares = max(1, min(_MOST_SHARES, int(self._ray.cluster_resources().get("CPU", 1))))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self._ray.shutdown()

    def perform(self, tasks: Sequence[Task], place: Path, with_rejects: bool, reporter: Reporter) -> Iterator[Finished]:
        """Do the tasks in the cluster, those that only this process can do here; see engines.Engine."""
        remote = self._ray.remote(num_cpus=1)(_perform)
        waiting = {remote.remote(task, place.resolve(), with_rejects): at
                   for at, task in enumerate(tasks) if not task.here}
        done: dict[int, Finished] = {}
        try:
            for at, task in enumerate(tasks):
                if task.here:
                    done[at] = perform(task, place, with_rejects, reporter)
            while waiting:
                if reporter.stopping():
                    raise Interrupted(STOPPED.format(place=place))
                for one in self._ray.wait(list(waiting), timeout=_POLL_S)[0]:
                    at = waiting.pop(one)
                    done[at] = self._result(one, tasks[at], reporter)
                reporter.progress(len(done), len(tasks), f"tasks of {tasks[0].step}")
            yield from (done[at] for at in range(len(tasks)))
        finally:
            for one in waiting:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    self._ray.cancel(one, force=True)

    def _result(self, reference: Any, task: Task, reporter: Reporter) -> Finished:
        try:
            result, notes, warnings = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise Gpt2Error(f"Ray lost {task.name}: {said[:200]}; what is finished is kept, run the same command again"
                            ) from None
        for text in notes:
            reporter.note(text)
        for text in warnings:
            reporter.warn(text)
        if isinstance(result, Exception):
            raise result
        return result


def _check_reachable(address: str) -> None:
    """Raise UsageFault for an address where nobody answers: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise UsageFault(f"no Ray cluster at {address}: {error}") from None


def _perform(task: Task, place: Path, with_rejects: bool) -> tuple[Finished | Exception, list[str], list[str]]:
    """Do a task on a machine of the cluster: what it came to or the error it ended with, and what it had to say."""
    reporter = Silent()
    try:
        return perform(task, place, with_rejects, reporter), reporter.notes, reporter.warnings
    except (Gpt2Error, OSError) as error:
        return error, reporter.notes, reporter.warnings
