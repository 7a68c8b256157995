"""Memory: how much there is, and which of GPT-2's sizes could be trained in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import torch

from gpt2cli.doctor.finding import Finding, binary_size
from gpt2cli.model.device import native_bf16
from gpt2cli.sizes import GPT2_VOCAB_SIZE, SIZES
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.peak_estimate import peak_memory
from gpt2cli.training.process_memory import available_bytes

TOPIC = "memory"


def memory() -> Iterator[Finding]:
    """Yield the memory there is, and what training each size takes of it."""
    total, available = total_bytes(), available_bytes()
    said = binary_size(total)
    yield Finding(TOPIC, "memory", said if available is None else f"{said}, {binary_size(available)} to be had")
    yield from trainable(total if available is None else available)


def trainable(available: int) -> Iterator[Finding]:
    """Yield for each of GPT-2's sizes how it can be trained on this machine's CPUs in `available` bytes."""
    bf16 = native_bf16(torch.device("cpu"))
    for name in SIZES:
        plain = resolve(TrainOptions(size=name, micro_batch=1), n_vocab=GPT2_VOCAB_SIZE, train_tokens=10**9,
                        native_bf16=bf16)
        for options, config, recompute in _ways(plain):
            peak = peak_memory(config, recompute=recompute).total
            if peak <= available:
                yield Finding(TOPIC, f"train {name}", f"{binary_size(peak)} at its peak with {options}")
                break
        else:
            yield Finding(TOPIC, f"train {name}", f"{binary_size(peak)} at its peak with {options}: more than there is",
                          "note", "gpt2 train --dry-run says what other options would take")


def _ways(plain: TrainConfig) -> Iterator[tuple[str, TrainConfig, bool]]:
    """Yield ways to train one sequence at a time, in less and less memory: options, configuration, recomputation."""
    options = "--micro-batch 1"
    yield options, plain, False
    options += " --activation-checkpointing"
    yield options, plain, True
    yield f"{options} --weights bf16 --moments bf16", replace(plain, dtype="bf16", weights="bf16", moments="bf16"), True


def total_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
