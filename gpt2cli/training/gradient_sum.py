"""The gradient of a batch from those of its micro-batches: on one rank, between ranks, in any order or in a fixed one.

In a fixed order the sum is a binary tree over the micro-batches' numbers. Its node i at depth d covers the numbers from
floor(n i / 2^d) to floor(n (i + 1) / 2^d): whatever n, the 2^d nodes of a depth are the shares of 2^d ranks
(Ranks.share). So a rank sums its own node, and ranks that meet pairwise, neighbours first, climb the rest of the same
tree. Floating-point addition commutes, it only doesn't associate: the bits are those of one process.

Between ranks the tree is climbed by recursive halving: at each meeting the two exchange halves of what they have, so
that no rank adds what another adds too, and the sums are gathered the same way back (Rabenseifner 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

BUCKET = 8 << 20
"""Elements that travel in one message: small tensors go together, since every message has its latency."""


def tree_sum(count: int, rank: int, world: int, leaf: Callable[[int], list[Tensor]]) -> list[Tensor]:
    """Return the sum over this rank's node of the tree over `count` leaves; `world` is a power of two <= `count`.

    leaf(i) gives the tensors of leaf i, which become the caller's; they are asked for in order.
    """
    return _node(count, rank, world.bit_length() - 1, leaf)


def _node(count: int, index: int, depth: int, leaf: Callable[[int], list[Tensor]]) -> list[Tensor]:
    first, end = count * index >> depth, count * (index + 1) >> depth
    if end - first == 1:
        return leaf(first)
    left = _node(count, 2 * index, depth + 1, leaf)
    torch._foreach_add_(left, _node(count, 2 * index + 1, depth + 1, leaf))
    return left


def add_up_between_ranks(tensors: list[Tensor], group: Any = None) -> None:
    """Replace each tensor by its sum over all ranks, or those of a group, in the order that is fastest."""
    import torch.distributed as dist

    for bucket in _buckets(tensors):
        flat = _flat(bucket, 1)
        dist.all_reduce(flat, group=group)
        _put_back(flat, bucket)


def add_up_between_pair(tensor: Tensor, partner: int) -> None:
    """Replace a tensor by its sum with that of rank `partner`, which calls this too; both get the same bits."""
    theirs = torch.empty_like(tensor)
    _exchange(tensor.contiguous(), theirs, partner)
    tensor += theirs


def climb_between_ranks(tensors: list[Tensor], rank: int, world: int) -> None:
    """Replace each tensor, this rank's node of tree_sum(), by the tree's root. `world` is a power of two."""
    for bucket in _buckets(tensors):
        flat = _flat(bucket, world)
        _halve_and_gather(flat, rank, world)
        _put_back(flat, bucket)


def _halve_and_gather(flat: Tensor, rank: int, world: int) -> None:
    first, end = 0, len(flat)
    met: list[tuple[int, slice, slice]] = []
    step = 1
    while step < world:
        middle = (first + end) // 2
        halves = slice(first, middle), slice(middle, end)
        kept, given = halves if rank & step == 0 else halves[::-1]
        theirs = torch.empty_like(flat[kept])
        _exchange(flat[given], theirs, rank ^ step)
        flat[kept] += theirs
        met.append((rank ^ step, kept, given))
        first, end = kept.start, kept.stop
        step *= 2
    for partner, kept, given in reversed(met):
        theirs = torch.empty_like(flat[given])
        _exchange(flat[kept], theirs, partner)
        flat[given] = theirs


def _exchange(mine: Tensor, theirs: Tensor, partner: int) -> None:
    import torch.distributed as dist

    both = [dist.P2POp(dist.isend, mine, partner), dist.P2POp(dist.irecv, theirs, partner)]
    for work in dist.batch_isend_irecv(both):
        work.wait()


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield neighbouring tensors of one type, together at most BUCKET elements or else alone."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and (held + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.numel()
    if bucket:
        yield bucket


def _flat(bucket: list[Tensor], multiple: int) -> Tensor:
    """Return the bucket's elements in a row, a view where it is one whole tensor, filled up to a multiple."""
    missing = -sum(tensor.numel() for tensor in bucket) % multiple
    if len(bucket) == 1 and not missing and bucket[0].is_contiguous():
        return bucket[0].view(-1)
    return torch.cat([*(tensor.reshape(-1) for tensor in bucket), bucket[0].new_zeros(missing)])


def _put_back(flat: Tensor, bucket: list[Tensor]) -> None:
    start = 0
    for tensor in bucket:
        part = flat[start : start + tensor.numel()]
        start += tensor.numel()
        if part.data_ptr() != tensor.data_ptr():
            tensor.copy_(part.view(tensor.shape))
