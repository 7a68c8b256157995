"""Log-likelihoods of requests: rows of trunks and branches in batches of a token budget, the head where it is asked.

The batch size, and which requests come together, change rounding and nothing else. Sums are fp64.
Shapes: N positions that predict something, V vocabulary, C width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.evaluation.branches import Prefix, branched_states, read_prefix
from gpt2cli.evaluation.task_requests import EncodedRequest
from gpt2cli.evaluation.task_trees import Tree, grow, with_shared_prefixes
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.linear import linear
from gpt2cli.reporter import Reporter

HEAD_ROWS = 256
"""Positions whose logits exist at once."""
STRIP = 16
"""Positions whose softmax is worked out together: their logits stay in a processor's cache."""


@dataclass(frozen=True)
class Likelihood:
    """log P(continuation | context) in nats; whether each of its tokens is the most probable one."""

    nats: float
    greedy: bool


class LikelihoodScorer:
    """Scores requests under a model. budget: positions computed together."""

    def __init__(self, model: GPT2, budget: int, reporter: Reporter) -> None:
        self._model = model
        self._budget = budget
        self._reporter = reporter

    def score(self, groups: Sequence[Sequence[EncodedRequest]], on_batch: Callable[[int], None] = lambda count: None,
              ) -> list[list[Likelihood]]:
        """Return the likelihoods of groups of requests; those of one group share what they begin with.

        on_batch: is told how many requests each batch had; equal requests are computed once and told once.
        Raises BadInput when the model gives no finite probability and Interrupted when asked to stop.
        """
        unique: dict[tuple[bytes, int], int] = {}
        numbers = [[unique.setdefault((request.ids.tobytes(), request.scored), len(unique)) for request in group]
                   for group in groups]
        found: list[Likelihood | None] = [None] * len(unique)
        for prefix_ids, trees in with_shared_prefixes(self._trees(groups, numbers)):
            prefix = read_prefix(self._model, prefix_ids) if len(prefix_ids) else None
            targets = self._targets(groups, numbers)
            for batch in self._batches(trees, len(prefix_ids)):
                if self._reporter.stopping():
                    raise Interrupted
                self._score(batch, prefix, targets, found)
                on_batch(sum(len(tree.requests) for tree in batch))
        return [[likelihood for number in group if (likelihood := found[number]) is not None] for group in numbers]

    def _trees(self, groups: Sequence[Sequence[EncodedRequest]], numbers: list[list[int]]) -> list[Tree]:
        seen: set[int] = set()
        trees: list[Tree] = []
        for group, names in zip(groups, numbers, strict=True):
            new = {name: request for name, request in zip(names, group, strict=True) if name not in seen}
            seen |= set(new)
            if new:
                trees += grow(list(new.values()), list(new), self._model.shape.n_ctx * 3 // 2)
        return trees

    @staticmethod
    def _targets(groups: Sequence[Sequence[EncodedRequest]], numbers: list[list[int]]) -> dict[int, np.ndarray]:
        return {name: request.ids[-request.scored :] for group, names in zip(groups, numbers, strict=True)
                for name, request in zip(names, group, strict=True)}

    def _batches(self, trees: list[Tree], prefix: int) -> Iterator[list[Tree]]:
        """Cut trees, longest row first, into batches of the budget (one tree at least), the prefix's copies bounded."""
        trees = sorted(trees, key=lambda tree: -tree.row.length)
        start = 0
        while start < len(trees):
            length = trees[start].row.length
            size = max(1, min(self._budget // length, 2 * self._budget // (length + prefix)))
            yield trees[start : start + size]
            start += size

    @torch.inference_mode()
    def _score(self, trees: list[Tree], prefix: Prefix | None, targets: dict[int, np.ndarray],
               found: list[Likelihood | None]) -> None:
        T = trees[0].row.length
        names = [name for tree in trees for name in tree.requests]
        places = [number * T + place for number, tree in enumerate(trees) for place in tree.places]
        wanted, rows = np.unique(np.concatenate(places), return_inverse=True)
        x_NC = branched_states(self._model, [tree.row for tree in trees], prefix, wanted)
        aims = np.concatenate([targets[name] for name in names]).astype(np.int64)
        nats, greedy = self._head(x_NC, rows, aims)
        if not np.isfinite(nats).all():
            raise BadInput("the model gives a token no finite probability; its weights are not sound")
        at = 0
        for name in names:
            part = slice(at, at := at + len(targets[name]))
            found[name] = Likelihood(float(nats[part].sum(dtype=np.float64)), bool(greedy[part].all()))

    def _head(self, x_NC: Tensor, rows: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log P of each target at its row of x_NC, and whether it is the most probable; fp32 softmax."""
        order = np.argsort(rows, kind="stable")
        nats, greedy = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=bool)
        at = 0
        for start in range(0, len(x_NC), HEAD_ROWS):
            x_RC = x_NC[start : start + HEAD_ROWS]
            logits_RV = linear(x_RC, self._model.wte.weight)
            for first in range(0, len(x_RC), STRIP):
                logits_SV = logits_RV[first : first + STRIP].float()
                stop = at + int(np.searchsorted(rows[order[at:]], start + first + len(logits_SV)))
                pairs, at = order[at:stop], stop
                row = torch.from_numpy(rows[pairs] - start - first).to(logits_SV.device)
                aim = torch.from_numpy(targets[pairs]).to(logits_SV.device)
                log_z_S, top_S = logits_SV.logsumexp(1), logits_SV.argmax(1)
                nats[pairs] = (logits_SV[row, aim] - log_z_S[row]).cpu().numpy()
                greedy[pairs] = (top_S[row] == aim).cpu().numpy()
        return nats, greedy
