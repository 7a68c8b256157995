"""The processors: how many this process may use, what they can, and how fast they multiply matrices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from gpt2cli.doctor.finding import Finding, binary_size
from gpt2cli.model.device import native_bf16
from gpt2cli.training.gemm_probe import gemm_flops_per_second

TOPIC = "processor"
_CPU = torch.device("cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def processor(measure: bool) -> Iterator[Finding]:
    """Yield the processors, and with `measure` their speed in matrix products (a second)."""
    usable = usable_cpus()
    yield Finding(TOPIC, "CPUs", f"{usable:g} to use of {os.cpu_count()}")
    yield threads(torch.get_num_threads(), usable)
    yield _capability()
    if measure:
        yield load(os.getloadavg()[0], usable)
        for dtype in ("fp32", "bf16"):
            rate = gemm_flops_per_second(_CPU, dtype)
            yield Finding(TOPIC, f"matrix products, {dtype}", f"{rate / 1e9:,.0f} GFLOP/s")
    yield from _accelerators(measure)


def usable_cpus() -> float:
    """Return the CPUs that this process may use: those it may run on, or less by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    try:
        quota, period = _QUOTA.read_text().split()
        return min(count, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no control groups, or "max": no quota
        return count


def threads(count: int, usable: float) -> Finding:
    """Judge the threads that torch computes with beside the CPUs there are."""
    said = f"torch computes with {count}"
    if count > max(1.0, usable):
        return Finding(TOPIC, "threads", said, "note",
                       f"threads that share a CPU wait for each other: --threads {max(1, int(usable))} is faster")
    if count < int(usable) // 2 or (count == 1 and usable >= 2):
        why = " (OMP_NUM_THREADS says so)" if os.environ.get("OMP_NUM_THREADS") else ""
        return Finding(TOPIC, "threads", said + why, "note", f"--threads {int(usable)} would use all CPUs")
    return Finding(TOPIC, "threads", said)


def load(average: float, usable: float) -> Finding:
    """Judge how busy the machine is with other things (`average`: processes that want to run, over a minute)."""
    said = f"{average:.1f} processes want to run"
    if average > usable / 2:
        return Finding(TOPIC, "load", said, "note", "the speeds measured here are those of a busy machine")
    return Finding(TOPIC, "load", said)


def _capability() -> Finding:
    level = torch.backends.cpu.get_cpu_capability()
    bf16 = "multiplies bf16 in hardware" if native_bf16(_CPU) else "no bf16 in hardware"
    if level == "DEFAULT" and os.environ.get("ATEN_CPU_CAPABILITY"):
        return Finding(TOPIC, "instructions", level, "note", "unset ATEN_CPU_CAPABILITY: it turns the fast kernels off")
    return Finding(TOPIC, "instructions", f"{level}, {bf16}")


def _accelerators(measure: bool) -> Iterator[Finding]:
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        facts = torch.cuda.get_device_properties(device)
        said = f"{facts.name}, {binary_size(facts.total_memory)}"
        if measure:
            said += f", {gemm_flops_per_second(device, 'bf16') / 1e12:,.0f} TFLOP/s in bf16"
        yield Finding(TOPIC, f"GPU cuda:{index}", said)
    if torch.backends.mps.is_available():
        yield Finding(TOPIC, "GPU", "mps")
    elif not torch.cuda.device_count():
        yield Finding(TOPIC, "GPU", f"none that torch {torch.__version__} sees")
