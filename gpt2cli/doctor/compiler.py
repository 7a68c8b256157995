"""Whether what --compile asks for can be had here: our own kernels, and torch.compile; found out by compiling."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from gpt2cli.doctor.finding import Finding
from gpt2cli.model.native_kernels import NoKernelsError, cxx_compiler, native_kernels, runs_here
from gpt2cli.model.small_network import small_network_library
from gpt2cli.records.temporaries import temporary_directory

TOPIC = "compiler"
_TIMEOUT_S = 180
_PROGRAM = """
import torch
compiled = torch.compile(lambda x: torch.nn.functional.gelu(x, approximate="tanh") + 1)
x = torch.linspace(-3, 3, 4096)
assert torch.allclose(compiled(x), torch.nn.functional.gelu(x, approximate="tanh") + 1, atol=1e-6)
"""


def compiler(measure: bool) -> Iterator[Finding]:
    """Yield which compiler there is, and with `measure` what it makes of our kernels and of torch.compile's code."""
    try:
        program = " ".join(cxx_compiler())
    except NoKernelsError as error:
        yield Finding(TOPIC, "C++ compiler", str(error), "note",
                      "train computes without it; it is faster with one (Debian: apt install g++; macOS: "
                      "xcode-select --install)")
        return
    yield Finding(TOPIC, "C++ compiler", program)
    if measure:
        yield _kernels()
        yield _torch_compile()


def _kernels() -> Finding:
    name = "train --compile native"
    try:
        small_network_library()
        if not runs_here():
            return Finding(TOPIC, name, "for small networks in fp32; bf16 needs a CPU with AVX-512 and bf16")
        native_kernels()
    except NoKernelsError as error:
        return Finding(TOPIC, name, str(error), "note", "train computes without these kernels; is the compiler whole?")
    return Finding(TOPIC, name, "for small networks in fp32, and in bf16")


def _torch_compile() -> Finding:
    """Try it in a process of its own, and from nothing: a cache would hide a compiler that fails."""
    name, start = "train --compile torch", time.perf_counter()
    with temporary_directory("gpt2-doctor") as cache:
        try:
            done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, timeout=_TIMEOUT_S,
                                  env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}, check=False)
        except subprocess.TimeoutExpired:
            return Finding(TOPIC, name, f"did not end within {_TIMEOUT_S} s", "note", "train without it")
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
        return Finding(TOPIC, name, f"fails: {last[-1][:200]}", "note",
                       "train without it; is the compiler whole, and are Python's headers there (python3-dev)?")
    return Finding(TOPIC, name, f"works ({time.perf_counter() - start:.0f} s for the first)")
