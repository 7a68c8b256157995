"""Named protocols: every choice that a perplexity depends on, in one table. The record repeats all of them.

A preset of a paper is one more row: windows, a context, a de-tokenizer, units; evaluation/paper.py has the rest of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from gpt2cli.errors import UsageFault

WITH_BOS = "<|endoftext|> before each document"
WITHOUT_BOS = "none: a document's first token is not scored"
PLAIN = "plain text"
SPECIAL = "the special token, as in transformers"
WHITESPACE = "whitespace-separated"
WORDS_AND_LINE_ENDS = "whitespace-separated, and one end of line for each line"
LAST_WORD = "the last word of each passage"
RE_SPLIT = r"len(re.split(r'\s+', text)), empty ones at the edges too"
AS_GIVEN = "as given, each document on its own"
CLEANED = "each document on its own, without a byte order mark, CRLF read as LF"
LAST_PART = "the last 5,000,000 bytes of each document"


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


_PAPER_WORDS = Choices("perplexity a canonical word, as the GPT-2 paper counts", context=1024,
                       word=WORDS_AND_LINE_ENDS, text=CLEANED, detokenizer="wikitext")
_PAPER_CHARACTERS = Choices("bits a byte or character, as the GPT-2 paper counts", context=1024, text=LAST_PART)
NAMED: Mapping[str, Choices] = MappingProxyType({
    "sliding": Choices("overlapping windows, every token scored exactly once"),
    "disjoint": Choices("windows that do not overlap, every token scored exactly once", stride="context"),
    "harness": Choices("lm-evaluation-harness's rolling log-likelihood", windows="harness", stride="context",
                       bos_fixed=True, endoftext_in_text=SPECIAL, word=RE_SPLIT),
    "hf-docs": Choices("the loop of the transformers documentation", windows="hf-docs", bos=False, bos_fixed=True,
                       endoftext_in_text=SPECIAL),
    "paper-wikitext2": _PAPER_WORDS,
    "paper-wikitext103": _PAPER_WORDS,
    "paper-ptb": replace(_PAPER_WORDS, detokenizer="ptb"),
    "paper-enwik8": _PAPER_CHARACTERS,
    "paper-text8": _PAPER_CHARACTERS,
    "paper-1bw": replace(_PAPER_WORDS, detokenizer="1bw"),
    "paper-lambada": Choices("the last word of each passage", windows="last-word", context=1024, stride="context",
                             bos=False, word=LAST_WORD, text=CLEANED),
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
    unstated: tuple[str, ...] = ()

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
        fields = asdict(self)
        unstated = list(fields.pop("unstated"))
        return {**fields, "unstated": unstated} if unstated else fields


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
