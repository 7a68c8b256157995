"""Runs `gpt2` commands in forks of one warm process: the Nth change of a file fails, or they are killed after a time.

A line of JSON on stdin a command: {"arguments", "directory", "call", "manner", "error", "kill_after_s", "around"}; a
line on stdout for each: {"status", "calls", "removals", "reads", "seconds", "stderr"}. Its temporary files go to the
directory `tmp` of its own. `around` and pipelines: surroundings.py. Started by failing_calls.py with faulty_calls.c and
wrong_clock.c preloaded.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import surroundings

from gpt2cli.cli import main

WARM = ("torch", "safetensors.torch", "tokenizers", "tiktoken", "zstandard", "numpy", "scipy.optimize", "aiohttp",
        "gpt2cli.training.trainer", "gpt2cli.evaluation.perplexity", "gpt2cli.sampling.generate",
        "gpt2cli.scaling.fit", "gpt2cli.tokens.pack", "gpt2cli.webtext.whole_crawl", "gpt2cli.webtext.crawl",
        "gpt2cli.webtext.rule_set")
"""What would take a fork long to import."""
if os.environ.get("FAULTS") == "all":
    WARM += ("matplotlib.backends.backend_agg", "matplotlib.figure", "pyarrow.parquet", "onnx", "gguf")


def serve() -> None:
    """Answer until stdin ends."""
    for name in WARM:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        if "commands" in asked:
            print(json.dumps(surroundings.pipeline(asked, _become)), flush=True)
            continue
        report, stderr = surroundings.Heard(), surroundings.Heard()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _run(asked, report, stderr)
        if asked["kill_after_s"] is not None:
            time.sleep(asked["kill_after_s"])
            os.kill(child, signal.SIGKILL)  # or its zombie
        status = surroundings.wait(child, asked["around"].get("seconds"))
        calls, removals, reads = map(int, words) if (words := report.words().split()) else (None, None, None)
        print(json.dumps({"status": status, "calls": calls, "removals": removals, "reads": reads,
                          "seconds": time.monotonic() - began, "stderr": stderr.words()}), flush=True)


def _run(asked: dict, report: surroundings.Heard, stderr: surroundings.Heard) -> None:
    """Become the command."""
    os.chdir(asked["directory"])
    surroundings.enter(asked["around"], stderr)
    sys.argv = ["gpt2", *asked["arguments"]]
    tempfile.tempdir = os.environ["TMPDIR"] = str(Path(asked["directory"]) / "tmp")
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.arm(os.fsencode(asked["directory"]), ctypes.c_long(asked["call"]), asked["manner"], asked["error"])
    status = 70
    try:
        main.entry()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        os.write(report.writing, f"{library.calls()} {library.removals()} {library.reads()}".encode())
        os._exit(status)


def _become(arguments: list[str]) -> None:
    """Become a command of a pipeline."""
    sys.argv = ["gpt2", *arguments]
    try:
        main.entry()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    finally:
        os._exit(70)


serve()
