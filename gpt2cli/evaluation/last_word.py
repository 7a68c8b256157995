"""The last word of a text, predicted as published LAMBADA numbers were: by its last token, or by a beam over words.

A word is a token that begins with a space and goes on in letters, digits, apostrophes and hyphens, then tokens of such
characters only, until a token that is neither. Its probability is that of its tokens times that of any such end.
Shapes: B open words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.evaluation.stop_words import STOP_WORDS
from gpt2cli.evaluation.task import Item, Result, Task
from gpt2cli.evaluation.task_machine import Machine
from gpt2cli.evaluation.task_requests import EncodedRequest
from gpt2cli.evaluation.task_scoring import LikelihoodScorer
from gpt2cli.model.decoder import Decoder
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.tokens.vocabulary import Vocabulary

MAX_PIECES = 8
"""Most tokens of a word."""


def answer_by_last_token(task: Task, items: Sequence[Item], machine: Machine) -> Iterator[Result]:
    """Yield whether the last token of each item's context is the most probable one, and its likelihood."""
    n_ctx, encoder = machine.opened.shape.n_ctx, machine.opened.encoder
    requests = []
    for item in items:
        ids = encoder.encode(item.context)
        if len(ids) < 2:
            raise BadInput(f"{item.doc.where}: its text is a single token, and nothing stands before it")
        dropped = max(0, len(ids) - n_ctx - 1)
        requests.append([EncodedRequest(ids[dropped:], 1, dropped)])
    scorer = LikelihoodScorer(machine.opened.model, machine.budget, machine.reporter)
    found = scorer.score(requests, machine.advance)
    for item, (request,), (likelihood,) in zip(items, requests, found, strict=True):
        measured = {"acc": float(likelihood.greedy), "perplexity": likelihood.nats}
        yield Result(item, {"target": encoder.decode([int(request.ids[-1])]).decode("utf-8", "replace"),
                            "loglikelihoods_nats": [likelihood.nats], "n_dropped_tokens": request.dropped},
                     {metric.name: measured[metric.name] for metric in task.metrics})


def answer_by_last_word(task: Task, items: Sequence[Item], machine: Machine) -> Iterator[Result]:
    """Yield whether the most probable word after each item's context is its target."""
    opened = machine.opened
    search = WordSearch(opened.model, opened.vocabulary, int(task.generation["beam"]),
                        STOP_WORDS if task.generation["stop_words"] else frozenset())
    room = opened.shape.n_ctx - MAX_PIECES
    if room < 1:
        raise BadInput(f"the model has {opened.shape.n_ctx} positions; a word needs up to {MAX_PIECES} more")
    for item in items:
        if machine.reporter.stopping():
            raise Interrupted("stopped while looking for words; nothing of this block was kept")
        ids = opened.encoder.encode(item.context).tolist() or [opened.vocabulary.eot]
        dropped = max(0, len(ids) - room)
        word, nats = search.best(ids[dropped:])
        machine.advance(1)
        yield Result(item, {"prediction": word, "prediction_nats": nats, "target": item.target,
                            "n_dropped_tokens": dropped}, {"acc": float(word == item.target)})


@dataclass(frozen=True)
class _Pieces:
    """Masks over the vocabulary: which tokens begin a word, go on with one, end one. (V,) bool."""

    begin_V: Tensor
    go_on_V: Tensor
    end_V: Tensor


class WordSearch:
    """Finds the most probable word after a text, but for `without`; the `beam` most probable beginnings are kept."""

    def __init__(self, model: GPT2, vocabulary: Vocabulary, beam: int, without: frozenset[str]) -> None:
        self._decoder = Decoder(model)
        self._tokens = vocabulary.token_bytes()
        self._pieces = _pieces(vocabulary, model.wte.weight.device)
        self._beam = beam
        self._without = without

    @torch.inference_mode()
    def best(self, context: list[int]) -> tuple[str, float]:
        """Return the most probable word and its log probability; ("", -inf) where no word was found."""
        cache = self._decoder.cache(1, len(context) + MAX_PIECES)
        log_BV = self._log_probabilities(self._decoder.begin([tuple(context)], cache))
        best, words = ("", float("-inf")), [b""]
        sums_B = log_BV.new_zeros(1)
        allowed_V = self._pieces.begin_V
        for _ in range(MAX_PIECES):
            sums_B, rows_B, ids_B = self._grow(sums_B, log_BV, allowed_V, best[1])
            if not len(ids_B):
                break
            words = [words[row] + self._tokens[token] for row, token in zip(rows_B.tolist(), ids_B.tolist(),
                                                                             strict=True)]
            cache.reorder(rows_B.tolist())
            log_BV = self._log_probabilities(self._decoder.read(ids_B[:, None], cache)[:, -1])
            ended_B = sums_B + log_BV.masked_fill(~self._pieces.end_V, float("-inf")).logsumexp(dim=1)
            for word, nats in zip(words, ended_B.tolist(), strict=True):
                text = word.decode("utf-8", "replace").strip()
                if nats > best[1] and text.lower() not in self._without:
                    best = text, nats
            allowed_V = self._pieces.go_on_V
        return best

    def _log_probabilities(self, x_BC: Tensor) -> Tensor:
        logits_BV = self._decoder.logits(x_BC)[:, : len(self._pieces.end_V)]
        return logits_BV.double().log_softmax(dim=1)

    def _grow(self, sums_B: Tensor, log_BV: Tensor, allowed_V: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums, rows and ids of the most probable ways to go on that may still beat `least`."""
        scores = (sums_B[:, None] + log_BV).masked_fill(~allowed_V, float("-inf")).flatten()
        sums_B, places_B = scores.topk(min(self._beam, len(scores)))
        kept = sums_B > least
        places_B = places_B[kept]
        return sums_B[kept], places_B // log_BV.shape[1], places_B % log_BV.shape[1]


def _pieces(vocabulary: Vocabulary, device: torch.device) -> _Pieces:
    masks = np.zeros((3, vocabulary.n_vocab), dtype=bool)
    for number, token in enumerate(vocabulary.token_bytes()):
        begins = token.startswith(b" ")
        inside = _is_inside(token.removeprefix(b" ") if begins else token) and number != vocabulary.eot
        masks[0 if begins else 1, number] = inside
        masks[2, number] = begins or not inside
    return _Pieces(*(torch.from_numpy(mask).to(device) for mask in masks))


def _is_inside(token: bytes) -> bool:
    """Whether a token's bytes are characters of a word, or parts of one."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return True
    return bool(text) and all(character.isalnum() or character in "'’-" for character in text)
