"""Asked after example pairs: WMT-14 (Bojar et al. 2014) and Natural Questions (Kwiatkowski et al. 2019)."""

from __future__ import annotations

import html
import re
from typing import Any

from gpt2cli.errors import BadInput, UsageFault, counted
from gpt2cli.evaluation.paper_tasks.preset import (
    Preset,
    Source,
    holds_json,
    lines_of,
    one_path,
    read_bytes,
    records_of,
    seeded,
    task_of,
    text_field,
)
from gpt2cli.evaluation.sentences import RULE
from gpt2cli.evaluation.task import Doc, Filter, Task
from gpt2cli.records.streams import display_name

EXAMPLES = 5
"""Example pairs that stand before an item unless a number is given; the paper states none."""
_SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.DOTALL | re.IGNORECASE)
_LANGUAGES = {"wmt14-en-fr": ("en", "fr"), "wmt14-fr-en": ("fr", "en")}


def _number(source: Source) -> int:
    return EXAMPLES if source.num_fewshot is None else source.num_fewshot


def _first(number: int) -> str:
    which = ("first record of the data is the example before every other and is" if number == 1 else
             f"first {number} records of the data are the examples before every other and are")
    return f"the {which} not evaluated; the paper states no number"


def _translation(name: str, source: Source) -> Task:
    languages = _LANGUAGES[name]
    if not 1 <= len(source.paths) <= 2:
        raise UsageFault(f"--preset {name} takes two files, {languages[0]} then {languages[1]}, or one of records")
    if len(source.paths) == 1:
        data = read_bytes(source.paths[0])
        docs = [_pair(doc, languages) for doc in records_of(data, source.paths[0], source.loss)]
    else:
        sides = [_sentences(path, source) for path in source.paths]
        if len(sides[0]) != len(sides[1]):
            raise BadInput(f"{display_name(source.paths[0])} has {counted(len(sides[0]), 'sentence')} and "
                           f"{display_name(source.paths[1])} has {len(sides[1]):,}; they are no translation")
        docs = [Doc(number, {"source": one, "reference": other}, f"sentence {number + 1}")
                for number, (one, other) in enumerate(zip(*sides, strict=True))]
    number = _number(source)
    rules: dict[str, Any] = {"doc_to_text": "{{source}} =", "doc_to_target": "reference", "target_delimiter": " ",
                             "fewshot_delimiter": "\n"}
    docs, shots = seeded(docs, number, name, **rules)
    notes = (f'the prompt is "{languages[0]} sentence = {languages[1]} sentence" a line, then "{languages[0]} sentence '
             '="', _first(number), f"greedy, the first sentence of the line; a sentence ends at {RULE}",
             "BLEU is sacrebleu's default (13a, case kept); the paper states none",
             "a prompt that is too long loses its first tokens")
    return task_of(name, "generate_until", docs, ("bleu",), notes, num_fewshot=number, shots=shots,
                   filters=(Filter("none", (("first_sentences", {"n": 1}),)),),
                   generation={"until": ["\n"], "max_gen_toks": 128}, **rules)


def _pair(doc: Doc, languages: tuple[str, str]) -> Doc:
    inner = doc.fields.get("translation", doc.fields)
    texts = [inner.get(language) if isinstance(inner, dict) else None for language in languages]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadInput(f"{doc.where} has no texts in {languages[0]!r} and {languages[1]!r}, or none in `translation`")
    return Doc(doc.number, dict(zip(("source", "reference"), (" ".join(str(text).split()) for text in texts),
                                    strict=True)), doc.where)


def _sentences(path: str, source: Source) -> list[str]:
    """Return the sentences of a file: the segments of NIST's SGML, else the lines."""
    data = read_bytes(path)
    if holds_json(data):
        raise UsageFault(f"{display_name(path)} holds records; name it alone, since it has both languages")
    lines = [line.text for line in lines_of(data, path, source.loss)]
    if data[:4096].lstrip()[:1] == b"<":
        return [" ".join(html.unescape(text).split()) for text in _SEGMENT.findall("\n".join(lines))]
    return [" ".join(line.split()) for line in lines]


def _questions(name: str, source: Source) -> Task:
    path = one_path(name, source)
    docs = []
    for doc in records_of(read_bytes(path), path, source.loss):
        answers = doc.fields.get("answer")
        answers = [answers] if isinstance(answers, str) else answers
        if not isinstance(answers, list) or not answers or not all(isinstance(each, str) for each in answers):
            raise BadInput(f"{doc.where} has no text or list of texts in 'answer'")
        docs.append(Doc(doc.number, {"question": " ".join(text_field(doc, "question").split()), "answers": answers},
                        doc.where))
    number = _number(source)
    rules: dict[str, Any] = {"doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "answers", "target_delimiter": " ",
                             "fewshot_delimiter": "\n"}
    docs, shots = seeded(docs, number, name, **rules)
    notes = ('the prompt is "Q: question" and "A: answer" lines, then the question and "A:"', _first(number),
             "of several right answers an example shows the first", "greedy, until a line ends or 32 tokens",
             "an answer is right if its words equal those of one reference, without case, punctuation and articles")
    return task_of(name, "generate_until", docs, ("squad_em", "squad_f1"), notes, num_fewshot=number, shots=shots,
                   filters=(Filter("none", (("remove_whitespace", {}),)),),
                   generation={"until": ["\n"], "max_gen_toks": 32}, **rules)


_PAIRS = "two files (one sentence a line, or NIST's SGML), source first, or JSONL with `translation`"
AFTER_EXAMPLES = {
    "wmt14-en-fr": Preset("English to French, BLEU", _PAIRS, _translation, {"bleu": "wmt14-en-fr"}),
    "wmt14-fr-en": Preset("French to English, BLEU", _PAIRS, _translation, {"bleu": "wmt14-fr-en"}),
    "natural-questions": Preset("questions after example pairs, exact match",
                                "JSONL with question and answer (a text or several)", _questions,
                                {"squad_em": "natural-questions"}),
}
