"""Where and in which precision a model runs: the words of --device, --dtype and --threads made torch's own."""

from __future__ import annotations

import torch

from gpt2cli.errors import UsageFault

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The names of --dtype."""


def choose_device(name: str) -> torch.device:
    """Return the device for auto, cpu, cuda, cuda:N or mps; auto takes a GPU if torch sees one.

    Raises UsageFault for another word, and for a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise UsageFault(f"no device {name!r}; devices are auto, cpu, cuda, cuda:N and mps")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageFault(f"no device {name!r} here: torch sees {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageFault("no device 'mps' here: torch sees no Apple GPU")
    return torch.device(name)


def choose_dtype(name: str) -> torch.dtype:
    """Return torch's type for fp32, bf16 or fp16; raise UsageFault for another word."""
    if name not in DTYPES:
        raise UsageFault(f"no dtype {name!r}; dtypes are {', '.join(DTYPES)}")
    return DTYPES[name]


def auto_dtype(device: torch.device, rows: int) -> str:
    """Return the dtype that --dtype auto means where `rows` rows are decoded together.

    The fastest of those that change next to nothing: fp16 on a GPU and, for one row, on a CPU (linear.py has the
    times); else fp32. Never bf16, whose 8 bits change one greedy choice in twenty.
    """
    few_on_cpu = rows == 1 and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return "fp16" if few_on_cpu or device.type == "cuda" else "fp32"


def native_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def use_threads(count: int | None) -> None:
    """Let torch compute with `count` CPU threads; None leaves torch's own choice."""
    if count is not None:
        torch.set_num_threads(count)
