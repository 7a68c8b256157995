"""Memory: how much there is, and which of GPT-2's sizes could be trained in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from gpt2cli.doctor.finding import Finding, binary_size
from gpt2cli.model.device import native_bf16
from gpt2cli.sizes import GPT2_VOCAB_SIZE, SIZES
from gpt2cli.training.config import TrainOptions, resolve
from gpt2cli.training.peak_estimate import peak_memory

TOPIC = "memory"
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory() -> Iterator[Finding]:
    """Yield the memory there is, and what training each size takes of it."""
    total, limit, free = total_bytes(), container_limit(), free_bytes()
    usable = total if limit is None else min(total, limit)
    said = binary_size(usable) if usable == total else f"{binary_size(usable)} allowed here, of {binary_size(total)}"
    yield Finding(TOPIC, "memory", said if free is None else f"{said}, {binary_size(free)} free")
    yield from trainable(usable if free is None else min(usable, free))


def trainable(free: int) -> Iterator[Finding]:
    """Yield for each of GPT-2's sizes whether it can be trained on this machine's CPUs in `free` bytes."""
    for name in SIZES:
        config = resolve(TrainOptions(size=name, micro_batch=1), n_vocab=GPT2_VOCAB_SIZE, train_tokens=10**9,
                         native_bf16=native_bf16(torch.device("cpu")))
        peak = peak_memory(config).total
        said = f"{binary_size(peak)} at its peak with --micro-batch 1 in {config.dtype}"
        if peak <= free:
            yield Finding(TOPIC, f"train {name}", said)
        else:
            yield Finding(TOPIC, f"train {name}", f"{said}: more than is free", "note",
                          "gpt2 train --dry-run says what its options for less memory would take")


def total_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def container_limit() -> int | None:
    """Return the bytes that a control group allows this process; None without one."""
    for path in _CONTAINER:
        try:
            return int(path.read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def free_bytes() -> int | None:
    """Return what could be had without swapping, by Linux's own estimate; None where the system has none."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) << 10
