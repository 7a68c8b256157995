"""Requests as ids: context and continuation are split as lm-evaluation-harness splits them, and cut from the left.

Its _encode_pair (api/model.py of 0.4.13): white space at the end of a context moves to the continuation; the
continuation's ids are those of both together after the first len(ids of the context).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.task import Request
from gpt2cli.tokens.encode import Encoder


@dataclass(frozen=True)
class EncodedRequest:
    """The ids that are read and scored: inputs are ids[:-1], the last `scored` ids are the continuation.

    dropped: ids of the context that did not fit, from the left.
    """

    ids: np.ndarray
    scored: int
    dropped: int


class RequestEncoder:
    """Encodes requests for a model of `n_ctx` positions; the last context is remembered, for the choices of an item."""

    def __init__(self, encoder: Encoder, n_ctx: int) -> None:
        self._encoder = encoder
        self._n_ctx = n_ctx
        self._last: tuple[str, np.ndarray] | None = None

    def encode(self, request: Request, where: str) -> EncodedRequest:
        """Return a request's ids; raise BadInput, naming `where`, for a continuation without ids or with too many."""
        context = request.context.rstrip()
        continuation = request.context[len(context) :] + request.continuation
        if context:
            before = self._context(context)
            after = self._encoder.encode(context + continuation)[len(before) :]
        else:
            before = np.array([self._encoder.vocabulary.eot], dtype=np.uint32)
            after = self._encoder.encode(continuation)
        shown = repr(request.continuation[:40])
        if not len(after):
            raise BadInput(f"{where}: its continuation {shown} is no token of its own after the context")
        if len(after) > self._n_ctx:
            raise BadInput(f"{where}: its continuation {shown} has {len(after):,} tokens, more than the "
                           f"{self._n_ctx:,} positions of the model")
        dropped = max(0, len(before) + len(after) - self._n_ctx - 1)
        return EncodedRequest(np.concatenate([before[dropped:], after]), len(after), dropped)

    def _context(self, text: str) -> np.ndarray:
        if self._last is None or self._last[0] != text:
            self._last = text, self._encoder.encode(text)
        return self._last[1]
