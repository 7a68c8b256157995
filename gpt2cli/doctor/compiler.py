"""Whether torch.compile works here, found out by compiling something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

from gpt2cli.doctor.finding import Finding

TOPIC = "compiler"
_TIMEOUT_S = 180
_PROGRAM = """
import torch
compiled = torch.compile(lambda x: torch.nn.functional.gelu(x, approximate="tanh") + 1)
x = torch.linspace(-3, 3, 4096)
assert torch.allclose(compiled(x), torch.nn.functional.gelu(x, approximate="tanh") + 1, atol=1e-6)
"""


def compiler(measure: bool) -> Finding:
    """Return whether torch.compile works: with `measure` by a small function, compiled anew in a process of its own."""
    program = cxx()
    if program is None:
        return Finding(TOPIC, "torch.compile", "there is no C++ compiler", "note",
                       "train computes without it; for more speed install g++ (Debian: apt install g++; macOS: "
                       "xcode-select --install)")
    if not measure:
        return Finding(TOPIC, "torch.compile", f"{program} is there; not tried")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gpt2-doctor-") as cache:
        try:
            done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, timeout=_TIMEOUT_S,
                                  env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}, check=False)
        except subprocess.TimeoutExpired:
            return Finding(TOPIC, "torch.compile", f"did not end within {_TIMEOUT_S} s", "note", "train without it")
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
        return Finding(TOPIC, "torch.compile", f"fails: {last[-1][:200]}", "note",
                       f"train computes without it; is {program} whole, and are Python's headers there (python3-dev)?")
    return Finding(TOPIC, "torch.compile", f"works with {program} ({time.perf_counter() - start:.0f} s for the first)")


def cxx() -> str | None:
    """Return the C++ compiler that torch would call, None where there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None
