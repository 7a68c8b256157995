"""The kernels in native/, compiled for this machine by the C++ compiler that is there, once, and kept for the next run.

They are for training in bf16 on processors with AVX-512 and its bf16 instructions (AMD since 2022, Intel since 2020);
everywhere else torch's own do the work. Compiling takes two seconds. Threads are torch's: both use one OpenMP runtime.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from gpt2cli.records.temporaries import temporary_directory

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-w")
_COMPILERS = ("c++", "g++", "clang++")
_SECONDS = 120
_SIGNATURES = {
    "attention_forward": "ppplllli", "attention_backward": "ppppplllli", "norm_forward": "ppppppppllfi",
    "norm_again": "pppppplli", "norm_backward": "ppppppppplli", "gelu_forward": "ppli",
    "gelu_backward": "pppli", "add_column_sums": "pplli", "add_widened": "pplii",
    "nll_in_place": "pppfllli", "adamw_narrow": "pppippipiiiifffffffli",
}
"""Arguments by kernel: p a tensor, l int64, f float, i int. The last i is the number of threads."""
_ALLOCATE = {"attention_forward", "attention_backward"}
"""Those that take memory, and return 1 where they get none."""
_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}


class NoKernelsError(Exception):
    """The kernels cannot be had here; the message says why, as the end of a sentence."""


class NativeKernels:
    """The compiled kernels by name, taking tensors and numbers; the number of threads is added."""

    def __init__(self, library: Path) -> None:
        self._functions = {}
        loaded = ctypes.CDLL(str(library))
        for name, letters in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.argtypes = [_TYPES[letter] for letter in letters]
            function.restype = ctypes.c_int if name in _ALLOCATE else None
            self._functions[name] = function

    def __call__(self, name: str, *arguments: Tensor | int | float | None) -> None:
        """Run a kernel. Tensors are contiguous, but for the rows of logits; None: no tensor. Raises MemoryError."""
        failed = self._functions[name](*(each.data_ptr() if isinstance(each, Tensor) else each for each in arguments),
                                       torch.get_num_threads())
        if failed:
            raise MemoryError(f"the kernel {name} gets no memory")


def runs_here() -> bool:
    """Whether this processor has the instructions that the kernels use."""
    return bool(torch.cpu._is_avx512_bf16_supported())


@cache
def native_kernels() -> NativeKernels:
    """Return the kernels, compiled by this call if they never were. Raises NoKernelsError."""
    if not runs_here():
        raise NoKernelsError("this processor has no AVX-512 with bf16")
    sources = [(file.name, file.read_bytes()) for file in files("gpt2cli.model.native").iterdir()
               if file.name.endswith((".cpp", ".h"))]
    try:
        return NativeKernels(compiled_library("kernels", sources))
    except (OSError, AttributeError) as error:
        raise NoKernelsError(f"the compiled kernels do not load ({error})") from None


def compiled_library(stem: str, sources: list[tuple[str, bytes]]) -> Path:
    """Return the library of C++ files (name, content), compiled by this call if it never was. Raises NoKernelsError."""
    compiler = cxx_compiler()
    digest = hashlib.sha256(repr((sorted(sources), compiler, _version(compiler), FLAGS, _processor())).encode())
    library = _cache_directory() / f"{stem}-{digest.hexdigest()[:16]}.so"
    return library if _is_ours(library) else _compile(compiler, sources, library)


def _is_ours(library: Path) -> bool:
    """Return whether a library is there that nobody else could have written: what it holds will be run."""
    try:
        found = library.stat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def cxx_compiler() -> list[str]:
    """Return the command of the C++ compiler: $CXX, or the first that is found. Raises NoKernelsError."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named
    found = next((path for name in _COMPILERS if (path := shutil.which(name))), None)
    if found is None:
        raise NoKernelsError(f"there is no C++ compiler ({', '.join(_COMPILERS)} or $CXX)")
    return [found]


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"])


def _processor() -> str:
    """What -march=native depends on: a cache that two machines share has the kernels of both."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")


def _compile(compiler: list[str], sources: list[tuple[str, bytes]], library: Path) -> Path:
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with temporary_directory("building", library.parent) as place:
            for name, content in sources:
                (place / name).write_bytes(content)
            built = place / library.name
            units = sorted(str(place / name) for name, _ in sources if name.endswith(".cpp"))
            _run([*compiler, *FLAGS, "-o", str(built), *units])
            built.chmod(0o700)
            built.replace(library)
    except OSError as error:
        raise NoKernelsError(f"the compiled kernels cannot be kept in {library.parent} ({error})") from None
    return library


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernelsError(f"the C++ compiler {command[0]} does not run ({error})") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no word why"]
        raise NoKernelsError(f"the C++ compiler {command[0]} fails ({last[0][:200]})")
    return done.stdout


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "gpt2cli"
