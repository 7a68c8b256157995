"""Windows over one document, as arithmetic: which tokens are read together, and which of them are scored.

A document is a sequence of ids, with end-of-text before it or not; it has one target less than ids: target t is the id
at t, predicted from those before it. Each rule is given `reach`, which returns how many targets there are up to a
number asked for, so a document is read no further than its next window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType

Reach = Callable[[int], int]
"""reach(k) is min(k, targets of the document)."""


@dataclass(frozen=True)
class Window:
    """Inputs are sequence[start:stop], targets sequence[start + 1 : stop + 1], of which the last `scored` count.

    Their summed nll is worth `counted` tokens: it is multiplied by counted / scored, which is 1 but in hf-docs.
    """

    start: int
    stop: int
    scored: int
    counted: int


def sliding_windows(reach: Reach, context: int, stride: int) -> Iterator[Window]:
    """Window k begins at k x stride and scores what no window before it scored: every target exactly once.

    After the first window every scored target sees at least context - stride + 1 ids before it.
    """
    start = done = 0
    while (stop := reach(start + context)) > done:
        yield Window(start, stop, stop - done, stop - done)
        done = stop
        start += stride


def harness_windows(reach: Reach, context: int, stride: int) -> Iterator[Window]:
    """Disjoint windows, the last one moved left until it is full again and scoring only its rest: lm_eval's rolling.

    lm_eval.utils.get_rolling_token_windows with context_len 1. `stride` is the context.
    """
    done = 0
    while (stop := reach(done + context)) > done:
        yield Window(max(0, stop - context), stop, stop - done, stop - done)
        done = stop


def hf_docs_windows(reach: Reach, context: int, stride: int) -> Iterator[Window]:
    """The loop of the transformers documentation ("Perplexity of fixed-length models").

    Window k holds the ids from k x stride on. The loss is the mean over the targets that the shift of labels leaves,
    but is weighted by trg_len - 1, so a window whose first new id has a predecessor in it counts for one token too few.
    """
    start = ended = 0
    while True:
        stop = reach(start + context - 1)
        new = stop + 1 - ended
        if new > 1:
            yield Window(start, stop, min(new, stop - start), new - 1)
        ended = stop + 1
        if reach(ended) < ended:
            return
        start += stride


LAST_WORD_WINDOW = "last-word"
"""One window a document, which ends with it; only what came as its last chunk is scored. See Scorer."""
WINDOWS = MappingProxyType({"sliding": sliding_windows, "harness": harness_windows, "hf-docs": hf_docs_windows})
"""The rules by the name that a record gives them."""
