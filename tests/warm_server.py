"""Runs `gpt2` commands as forks of a process that has imported what takes long, for tests that run a hundred of them.

python warm_server.py SOCKET: a connection a command (warm_client.py), answered with its status; ends when stdin does.
A fork has the same hash seed and the same libraries loaded: what a test says of starting, of memory or of the order of
sets needs a process of its own (conftest.py's gpt2).
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
import threading

WARM = ("torch", "safetensors.torch", "tokenizers", "tiktoken", "zstandard", "numpy", "scipy.optimize", "scipy.stats",
        "rich.progress", "matplotlib.figure", "gpt2cli.cli.main", "gpt2cli.training.trainer",
        "gpt2cli.evaluation.perplexity", "gpt2cli.sampling.generate", "gpt2cli.scaling.fit", "gpt2cli.tokens.pack")


def serve(path: str) -> None:
    """Answer connections until stdin ends."""
    for name in WARM:
        importlib.import_module(name)
    if threading.active_count() > 1:
        raise SystemExit("a library has started a thread: forks of this process would hang")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who answer are nobody's to wait for
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while 0 not in select.select([0, listener.fileno()], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Run one command and say how it ended; kill it when whoever asked has gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size, data = int.from_bytes(head, "big"), b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    ended, kept = os.pipe()
    child = os.fork()
    if child == 0:
        connection.close()
        os.close(ended)
        _run(json.loads(os.fsdecode(data)), streams)
    for number in (*streams, kept, 0, 1, 2):
        os.close(number)
    if connection.fileno() in select.select([connection.fileno(), ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.sendall(status.to_bytes(4, "big", signed=True))
    finally:
        os._exit(0)


def _run(asked: dict, streams: list[int]) -> None:
    """Become the command."""
    from gpt2cli.cli import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["directory"])
    sys.argv = ["gpt2", *asked["arguments"]]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    status = 70
    try:
        main.entry()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
