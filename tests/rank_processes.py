"""Several ranks on one machine without torchrun and without its seconds: processes forked from the test's own."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

# imported here once, so that no forked rank takes its seconds
import torch._dynamo
import torch.distributed.fsdp

import gpt2cli.training.trainer  # noqa: F401

PATIENCE_S = 240
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launcher_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """Return what torchrun would set for one rank."""
    values = (rank, world, rank, "127.0.0.1", port)
    return dict(zip(LAUNCHER, map(str, values), strict=True)) | {"GLOO_SOCKET_IFNAME": "lo"}


def start_rank(body: Callable[[], int], rank: int, world: int, port: int, directory: Path) -> int:
    """Fork a process that is `rank` of `world`, runs body() and exits with its status; return its id.

    Its streams go to stdout-RANK and stderr-RANK in `directory`.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.environ.update(launcher_variables(rank, world, port))
        for number, name in ((1, "stdout"), (2, "stderr")):
            opened = os.open(directory / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
        status = body()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


@contextlib.contextmanager
def store_that_outlives_ranks(port: int, start: Callable[[], Any]) -> Iterator[Any]:
    """Yield what start() returns, the ranks, whose store is this process's on `port`, as it is torchrun's."""
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    try:
        started = start()
    finally:
        del os.environ["TORCHELASTIC_USE_AGENT_STORE"]
    # only now: it has threads, and a process with threads should not fork
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    try:
        yield started
    finally:
        del store


def on_ranks(world: int, body: Callable[[], Any], directory: Path) -> list[Any]:
    """Return what body() returns on each of `world` ranks, made of what JSON knows; fail where one fails."""
    port = free_port()

    def write() -> int:
        result = body()
        (directory / f"result-{os.environ['RANK']}").write_text(json.dumps(result))
        return 0

    pids = [start_rank(write, rank, world, port, directory) for rank in range(world)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    said = [(directory / f"stderr-{rank}").read_text() for rank in range(world)]
    assert statuses == [0] * world, said
    return [json.loads((directory / f"result-{rank}").read_text()) for rank in range(world)]
