"""Named protocols: every choice that a perplexity depends on, in one table. The record repeats all of them.

A preset of a paper is one more row: a base's windows, a fixed context and stride, a de-tokenizer, its own units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from gpt2cli.errors import UsageFault

WITH_BOS = "<|endoftext|> before each document"
WITHOUT_BOS = "none: a document's first token is not scored"
PLAIN = "plain text"
SPECIAL = "the special token, as in transformers"
WHITESPACE = "whitespace-separated"
RE_SPLIT = r"len(re.split(r'\s+', text)), empty ones at the edges too"
AS_GIVEN = "as given, each document on its own"


@dataclass(frozen=True)
class Choices:
    """One row: what the name decides. None is the user's to choose, within what the model has.

    windows: a key of windows.WINDOWS. stride: "half" of the context unless given, or always the "context".
    bos: what it is unless given; bos_fixed: it may not be given otherwise. detokenizer: a key of the de-tokenizers.
    """

    meaning: str
    windows: str = "sliding"
    context: int | None = None
    stride: str | int = "half"
    bos: bool = True
    bos_fixed: bool = False
    endoftext_in_text: str = PLAIN
    word: str = WHITESPACE
    text: str = AS_GIVEN
    detokenizer: str = "none"


NAMED: Mapping[str, Choices] = MappingProxyType({
    "sliding": Choices("overlapping windows, every token scored exactly once"),
    "disjoint": Choices("windows that do not overlap, every token scored exactly once", stride="context"),
    "harness": Choices("lm-evaluation-harness's rolling log-likelihood", windows="harness", stride="context",
                       bos_fixed=True, endoftext_in_text=SPECIAL, word=RE_SPLIT),
    "hf-docs": Choices("the loop of the transformers documentation", windows="hf-docs", bos=False, bos_fixed=True,
                       endoftext_in_text=SPECIAL),
})
"""The protocols that --protocol names."""


@dataclass(frozen=True)
class Protocol:
    """A name with every choice settled. It travels in the record as `protocol`."""

    name: str
    context: int
    stride: int
    windows: str = "sliding"
    bos: str = WITH_BOS
    eot_scored: bool = False
    endoftext_in_text: str = PLAIN
    word: str = WHITESPACE
    text: str = AS_GIVEN
    detokenizer: str = "none"
    units: str = "of the text that is scored"

    @property
    def has_bos(self) -> bool:
        """Whether end-of-text stands before each document, so that its first token is scored."""
        return self.bos == WITH_BOS

    @property
    def special(self) -> bool:
        """Whether <|endoftext|> in the text is the special token."""
        return self.endoftext_in_text == SPECIAL

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of a record's `protocol` field."""
        return asdict(self)


def settle(name: str, n_ctx: int, context: int | None = None, stride: int | None = None, bos: bool | None = None
           ) -> Protocol:
    """Return protocol `name` for a model of `n_ctx` positions; None leaves a choice to the protocol.

    Raises UsageFault for an unknown name, a context that does not fit the model, a stride that would leave tokens
    out, and for a choice that the protocol has made.
    """
    if name not in NAMED:
        raise UsageFault(f"there is no protocol {name!r}; choose {', '.join(NAMED)}")
    row = NAMED[name]
    context = _context(name, row, n_ctx, context)
    stride = _stride(name, row, context, stride)
    if bos is not None and bos != row.bos and row.bos_fixed:
        raise UsageFault(f"--{'' if bos else 'no-'}bos is not {name}: {row.meaning} "
                         f"has {'' if row.bos else 'no '}end-of-text before a document")
    with_bos = row.bos if bos is None else bos
    return Protocol(name, context, stride, row.windows, WITH_BOS if with_bos else WITHOUT_BOS, False,
                    row.endoftext_in_text, row.word, row.text, row.detokenizer)


def _context(name: str, row: Choices, n_ctx: int, context: int | None) -> int:
    if context is None:
        context = n_ctx if row.context is None else min(n_ctx, row.context)
    if not 1 <= context <= n_ctx:
        raise UsageFault(f"--context {context} does not fit the model, which has {n_ctx} positions")
    if row.windows == "hf-docs" and context < 2:
        raise UsageFault(f"--context {context} scores nothing with {name}: a window's first token is never scored")
    return context


def _stride(name: str, row: Choices, context: int, stride: int | None) -> int:
    if row.stride == "context":
        if stride not in (None, context):
            raise UsageFault(f"--stride {stride} is not {name}, whose windows move on by the context of {context}")
        return context
    if stride is None:
        stride = max(1, context // 2) if row.stride == "half" else min(int(row.stride), context)
    if not 1 <= stride <= context:
        raise UsageFault(f"--stride {stride} is not between 1 and the context of {context}: tokens would go unscored")
    return stride
