"""The GPT-2 paper's language modelling results as presets: what they count, what is published, what was left to choose.

The paper gives the units and says that de-tokenizers are invertible. Its evaluation code was never released, so every
other choice is named in `unstated`, which goes into the record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.detokenize import style_named
from gpt2cli.evaluation.preparation import Preparation, Treatment
from gpt2cli.evaluation.protocols import Protocol
from gpt2cli.evaluation.published import PUBLISHED

_WINDOWS = ("windows: they overlap and move on by half of the context, which is 1,024 tokens, or all the "
            "model has if that is less, unless --context says otherwise")
_START = "beginning: end-of-text stands before each document, and is not scored, unless --no-bos"
_JOINED = "joining: a file is one document, from its first line to its last, headings and blank lines included"
_LINE_ENDS = "line ends: the newline is scored and stands for the corpus's end-of-line token"
_UNK = "<unk>: kept and scored as the five characters that the file has"
_RULES = "de-tokenizer: the paper's are not published; the rules are gpt2cli's own"
_STREAM = "joining: one document, scored from its first character on; what the file has before it is not read"
_TEST = "split: the customary test set, the last 5,000,000 of 100,000,000, unless --split all"
_LAST, _WHOLE = 5_000_000, 100_000_000
PARTS = ("test", "all")
"""What of enwik8 and text8 is scored."""


@dataclass(frozen=True)
class Preset:
    """One published column. metric: the record's field to hold against it. canonical: counts of the canonical file."""

    published: str
    metric: str
    treatment: Treatment
    unstated: tuple[str, ...]
    canonical: Mapping[str, int] = field(default_factory=dict)


_WORDS = Treatment(clean=True)
_CHARACTERS = Treatment(last=_LAST)
PRESETS: Mapping[str, Preset] = MappingProxyType({
    "paper-wikitext2": Preset("wikitext2", "word_ppl", _WORDS, (_WINDOWS, _START, _JOINED, _LINE_ENDS, _UNK, _RULES),
                              {"n_words": 245_569}),
    "paper-wikitext103": Preset("wikitext103", "word_ppl", _WORDS,
                                (_WINDOWS, _START, _JOINED, _LINE_ENDS, _UNK, _RULES), {"n_words": 245_569}),
    "paper-ptb": Preset("ptb", "word_ppl", _WORDS,
                        (_WINDOWS, _START, _JOINED, _LINE_ENDS, f"{_UNK}; N, for a number, likewise", _RULES),
                        {"n_words": 82_430}),
    "paper-enwik8": Preset("enwik8", "bits_per_byte", _CHARACTERS, (_WINDOWS, _START, _STREAM, _TEST),
                           {"n_bytes": _LAST}),
    "paper-text8": Preset("text8", "bits_per_character", _CHARACTERS, (_WINDOWS, _START, _STREAM, _TEST),
                          {"n_characters": _LAST}),
    "paper-1bw": Preset(
        "1bw", "word_ppl", Treatment(clean=True, lines=True),
        (_WINDOWS, _START, "joining: each line is a document: the sentences were shuffled",
         _LINE_ENDS, _RULES, "test set: which of the held-out files; what is given is scored whole")),
    "paper-lambada": Preset(
        "lambada-ppl", "word_ppl", Treatment(clean=True, lines=True, last_word=True),
        ("what is scored: the last word of each passage, all its tokens, nothing else, as in lm-evaluation-harness",
         "context: the passage up to that word, as much of its end as the model reads, nothing before it unless --bos",
         "text: as given unless --detokenizer; which of the released forms the paper used is not said",
         "stop words: not filtered; the paper filters them for accuracy"),
        {"n_words": 5_153}),
})
"""The presets by the name of their protocol."""


def prepare(protocol: Protocol, detokenizer: str | None, split: str | None) -> tuple[Protocol, Preparation | None]:
    """Return `protocol` with the text's choices settled, and what prepares the text; None where nothing does.

    detokenizer: None is the protocol's. split: "test" or "all" of enwik8 and text8, None is test. Raises UsageFault.
    """
    preset = PRESETS.get(protocol.name)
    name = protocol.detokenizer if detokenizer is None else detokenizer
    style_named(name)
    if preset is None:
        if split in PARTS:
            raise UsageFault(f"--split {split} is a choice of paper-enwik8 and paper-text8; {protocol.name} has none")
        treatment = Treatment(name)
        units = protocol.units if name == "none" else "of the text before it was de-tokenised"
        settled = dataclasses.replace(protocol, detokenizer=name, units=units)
        return settled, None if name == "none" else Preparation(treatment)
    treatment = dataclasses.replace(preset.treatment, detokenizer=name)
    text = protocol.text
    if treatment.last is None:
        if split is not None:
            raise UsageFault(f"--split {split} is no choice of {protocol.name}: what is given is scored whole")
    elif split == "all":
        treatment, text = dataclasses.replace(treatment, last=None), "as given, whole"
    elif split == "train":
        raise UsageFault(f"--split train is no choice of {protocol.name}: it scores test, or all")
    units = "of the last words alone" if treatment.last_word else "of the text before it was de-tokenised"
    if treatment.last is not None or name == "none":
        units = units if treatment.last_word else "of the text that is scored"
    settled = dataclasses.replace(protocol, detokenizer=name, text=text, units=units, unstated=preset.unstated)
    return settled, Preparation(treatment)


def compare(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a preset adds to a record: metric, published, canonical. None of them for no preset.

    canonical: whether the counts are those of the canonical test file; None where none is known or --count-from counts.
    """
    preset = PRESETS.get(name)
    if preset is None:
        return {}
    counts = preset.canonical
    same = not doubts(name, record) if counts and not record.get("units_sha256") else None
    return {"metric": preset.metric, "published": PUBLISHED[preset.published].as_fields(), "canonical": same}


def doubts(name: str, record: Mapping[str, Any]) -> list[str]:
    """Return a sentence where the counts are not those of the canonical file; empty for no preset."""
    preset = PRESETS.get(name)
    if preset is None or record.get("units_sha256"):
        return []
    data = PUBLISHED[preset.published].data
    return [f"this is not the canonical file: it counts {record[unit]:,} {_UNITS[unit]}, {data}'s {count:,}; "
            "the published numbers are of that one"
            for unit, count in _counts_to_be(preset, record).items()
            if abs(record[unit] - count) > _SLACK.get(unit, 0)]


def _counts_to_be(preset: Preset, record: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the canonical counts; a part must have been cut from the whole corpus, or be what is given."""
    given = record.get("n_bytes_given", _LAST)
    return preset.canonical if abs(given - _LAST) <= 3 else {**preset.canonical, "n_bytes_given": _WHOLE}


_UNITS = {"n_words": "words", "n_bytes": "bytes", "n_characters": "characters", "n_bytes_given": "bytes in all"}
_SLACK = {"n_bytes": 3, "n_bytes_given": 3}
"""A cut at a byte may fall into a character, which is left out at the start and replaced at the end."""
