"""Runs commands one after another, each in a fork of this warm process whose streams are terminals or files.

A line of JSON on standard input asks ({"arguments", "directory", "stdout", "stderr"}, the last two paths of a terminal
or a file), a line on standard output gives the exit status.
"""

from __future__ import annotations

import json
import os
import sys

import torch

import gpt2cli.cli.main as main
import gpt2cli.detection.ranks
import gpt2cli.sampling.sample
import gpt2cli.scaling.study  # noqa: F401 (what takes long to import, once)

torch.set_num_threads(1)


def become(asked: dict) -> None:
    """Take the streams and be the command."""
    os.setsid()
    os.chdir(asked["directory"])
    for number, name in ((0, os.devnull), (1, asked["stdout"]), (2, asked["stderr"])):
        opened = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["gpt2", *asked["arguments"]]
    status = 70
    try:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        main.entry()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        os._exit(status)


for line in sys.stdin:
    child = os.fork()
    if not child:
        become(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
