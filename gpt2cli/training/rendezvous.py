"""How the processes of a run meet over the network, and part."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch

from gpt2cli.errors import Gpt2Error, Interrupted, IOFailure
from gpt2cli.training.place import place_from_environment
from gpt2cli.training.ranks import ALONE, LostRank, Ranks

JOIN_TIMEOUT = timedelta(minutes=5)
"""How long the first to come wait for the others."""
SILENCE_TIMEOUT = timedelta(minutes=60)
"""How long a rank may keep the others waiting: as long as the leader needs to write a checkpoint, and more."""


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Yield the ranks of this run, met over the network; alone, yield at once.

    Raises UsageFault for a launcher's variables that make no sense, Gpt2Error when the others don't come.
    """
    place = place_from_environment()
    if place.world == 1:
        yield ALONE
        return
    import torch.distributed as dist

    try:
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=JOIN_TIMEOUT)))
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # torchrun's store on one machine outlives a restart of the ranks
            store = dist.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", store=store,
                                rank=place.rank, world_size=place.world, timeout=SILENCE_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise Gpt2Error(f"rank {place.rank} did not meet the other ranks at {where}: {str(error).splitlines()[0]}"
                        ) from None
    ranks = Ranks(place, store)
    try:
        yield ranks
    except Exception as error:
        if not isinstance(error, (LostRank, Interrupted)):
            ranks.ended(IOFailure.status if isinstance(error, OSError) else int(getattr(error, "status", 1)))
        raise
    finally:
        dist.destroy_process_group()
