"""Children's Book Test (Hill et al. 2016): which of ten words belongs in a sentence after twenty others.

The file's form: lines numbered 1 to 21, the last with XXXXX in its sentence, then tab, answer, tab, tab and the
candidates between bars; an empty line between questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpt2cli.errors import BadInput, counted
from gpt2cli.evaluation.detokenize import detokenize
from gpt2cli.evaluation.paper_tasks.preset import Line, Preset, Source, lines_of, one_path, read_bytes, task_of
from gpt2cli.evaluation.task import Doc, Task

BLANK = "XXXXX"
_NUMBERED = re.compile(r"(\d+) (.*)", re.DOTALL)
_DATA = "the CBT's own text files (cbtest_CN_valid_2000ex.txt)"
_NOTES = (
    "the score of a candidate is log P(it and the rest of the sentence | the twenty sentences and the sentence so far)",
    "the sentences are joined by a space; the paper states neither that nor whether end-of-text stands first (it does "
    "not here)",
    "the paper reports the validation set",
)


def _make(name: str, source: Source) -> Task:
    path = one_path(name, source)
    docs: list[Doc] = []
    passed = 0
    for lines in _questions(lines_of(read_bytes(path), path, source.loss)):
        doc, kept = _doc(len(docs), lines)
        docs.append(doc)
        passed += kept
    form = f"the text is de-tokenised (cbt), but for {counted(passed, 'line')} that could not be undone"
    return task_of(name, "multiple_choice", docs, ("acc",), (*_NOTES, form), doc_to_text="context",
                   doc_to_choice="choices", doc_to_target="label", target_delimiter="")


def _questions(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Yield each question's lines, without their numbers."""
    held: list[Line] = []
    for line in lines:
        if not line.text.strip():
            continue
        match = _NUMBERED.fullmatch(line.text)
        if match is None or int(match[1][:4]) != len(held) + 1:
            raise BadInput(f"{line.where} does not begin with {len(held) + 1} and a space, as this line of a question "
                           "of the Children's Book Test does")
        held.append(Line(match[2], line.where))
        if "\t" in line.text:
            yield held
            held = []
    if held:
        raise BadInput(f"{held[-1].where}: the file ends within a question")


def _doc(number: int, lines: list[Line]) -> tuple[Doc, int]:
    where = lines[-1].where
    fields = lines[-1].text.split("\t")
    sentence, answer, candidates = fields[0], fields[1].strip() if len(fields) > 1 else "", fields[-1].split("|")
    candidates = [candidate.strip() for candidate in candidates if candidate.strip()]
    if sentence.count(BLANK) != 1 or len(fields) < 3 or len(candidates) < 2:
        raise BadInput(f"{where} is no question: a sentence with one {BLANK}, a tab, the answer, two tabs and the "
                       "candidates between bars")
    folded = [candidate.casefold() for candidate in candidates]
    if answer.casefold() not in folded:
        raise BadInput(f"{where}: the answer {answer[:40]!r} is none of the candidates")
    label = candidates.index(answer) if answer in candidates else folded.index(answer.casefold())
    ordinary = detokenize("cbt", "\n".join([line.text for line in lines[:-1]] + [sentence]))
    *before, asked = ordinary.text.split("\n")
    head, tail = asked.split(BLANK)
    context = " ".join([*(line.strip() for line in before), head])
    choices = [candidate + tail for candidate in candidates]
    return Doc(number, {"context": context, "choices": choices, "label": label}, where), len(ordinary.passed)


CBT = {
    "cbt-cn": Preset("Children's Book Test, common nouns", _DATA, _make, {"acc": "cbt-cn"}),
    "cbt-ne": Preset("Children's Book Test, named entities", _DATA, _make, {"acc": "cbt-ne"}),
}
