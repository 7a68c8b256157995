"""Whether a run fits the memory there is, before anything of it is written: the system would kill it at its peak.

Computing activations again changes no bit, so it is chosen where it is needed. All else that saves memory changes the
numbers, so it is left to a person, and named.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import torch

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.shard_set import ShardSet
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.order import BLOCK_TOKENS, BUFFER_BLOCKS
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.peak_estimate import peak_memory
from gpt2cli.training.process_memory import available_bytes
from gpt2cli.training.ranks import Ranks

_ALTERNATIVES: tuple[dict[str, object], ...] = (
    {"micro_batch": 1}, {"moments": "bf16"}, {"weights": "bf16"}, {"weights": "bf16", "micro_batch": 1},
    {"moments": "bf16", "micro_batch": 1}, {"weights": "bf16", "moments": "bf16"},
    {"weights": "bf16", "moments": "bf16", "micro_batch": 1},
)
"""What saves memory, what changes least of the numbers first."""


def reader_bytes(shards: ShardSet) -> int:
    """Return what the reader of the training split keeps decoded, in bytes."""
    return min(shards.n_tokens("train"), BLOCK_TOKENS * BUFFER_BLOCKS) * (2 if shards.n_vocab <= 1 << 16 else 4)


def choose_recompute(
    config: TrainConfig, shards: ShardSet, device: torch.device, ranks: Ranks, asked: bool | None, reporter: Reporter
) -> bool:
    """Return whether blocks are to be computed again: as asked, None: where the run fits no other way, saying so.

    Raises Gpt2Error, naming the options that would do, where the run does not fit either way. What cannot be foretold
    (other devices than CPUs, divided models, systems that do not tell their memory) is taken to fit.
    """
    available = available_bytes()
    if available is None or device.type != "cpu" or ranks.in_step:
        return bool(asked)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if ranks.world > 1 else 1

    def needed(made: TrainConfig, recompute: bool) -> int:
        return here * peak_memory(made, reader_bytes(shards), recompute).total

    for recompute in (False, True) if asked is None else (asked,):
        if needed(config, recompute) <= available:
            if recompute and asked is None:
                reporter.note(f"about {_gib(needed(config, False))} at the peak, and {_gib(available)} are available: "
                              "with --activation-checkpointing, which takes about "
                              f"{_gib(needed(config, True))} and a third more time")
            return recompute
    found = f"training this takes about {_gib(needed(config, bool(asked) or asked is None))} of memory"
    found += f" for {here} ranks" if here > 1 else ""
    raise Gpt2Error(f"{found}, and {_gib(available)} are available; {_way_out(config, available, needed, asked)}")


def _way_out(config: TrainConfig, available: int, needed: Callable[[TrainConfig, bool], int],
             asked: bool | None) -> str:
    also = " --activation-checkpointing" if asked is False else ""
    least = config
    for changed in ({}, *_ALTERNATIVES):
        if "weights" in changed and (config.dtype != "bf16" or config.compile == "torch"):
            continue
        made = replace(config, **changed)  # type: ignore[arg-type]
        if needed(made, True) <= available:
            return f"{_options(changed, also)} would do with {_gib(needed(made, True))}"
        if needed(made, True) < needed(least, True):
            least = made
    return f"the least that it can do with is {_gib(needed(least, True))}: free some, or train a smaller model"


def _options(changed: dict[str, object], also: str) -> str:
    return (" ".join(f"--{name.replace('_', '-')} {value}" for name, value in changed.items()) + also).strip()


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
