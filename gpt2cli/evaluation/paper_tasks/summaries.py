"""CNN and Daily Mail (Nallapati et al. 2016): what stands after an article and "TL;DR:" against its highlights."""

from __future__ import annotations

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.paper_tasks.preset import (
    Preset,
    Source,
    holds_json,
    lines_of,
    read_bytes,
    records_of,
    task_of,
    text_field,
)
from gpt2cli.evaluation.sentences import RULE
from gpt2cli.evaluation.task import Doc, Filter, Task
from gpt2cli.records.streams import display_name

PROMPT_END = "\nTL;DR:"
HIGHLIGHT = "@highlight"
_NOTES = (
    f"the prompt is the article, a line end and {PROMPT_END.strip()!r}",
    "an article that is too long loses its last tokens, since news begin with what matters; the paper says nothing",
    "100 tokens, top-k 2, temperature 1, one sample from --seed",
    f"the first 3 sentences of it are compared; a sentence ends at {RULE}",
    "ROUGE is rouge-score's F-measure with stemming, a sentence a line; the paper's ROUGE-L is shown by rougeLsum",
)


def _make(name: str, source: Source) -> Task:
    docs: list[Doc] = []
    for path in source.paths or ("-",):
        data = read_bytes(path)
        if holds_json(data):
            docs += [_doc(doc.number, text_field(doc, "article"), text_field(doc, "highlights"), doc.where)
                     for doc in records_of(data, path, source.loss, len(docs))]
        else:
            docs.append(_story(data, path, len(docs), source))
    filters = (Filter("none", (("first_sentences", {"n": 3}), ("sentence_lines", {}))),)
    return task_of(name, "generate_until", docs, ("rouge1", "rouge2", "rougeLsum", "rougeL"), _NOTES,
                   doc_to_text="prompt", doc_to_target="highlights", filters=filters,
                   generation={"until": [], "max_gen_toks": 100, "do_sample": True, "temperature": 1.0, "top_k": 2,
                               "keep_end": PROMPT_END})


def _story(data: bytes, path: str, number: int, source: Source) -> Doc:
    """Return the record of a .story file: paragraphs, then each highlight after a line @highlight."""
    parts: list[list[str]] = [[]]
    for line in lines_of(data, path, source.loss):
        text = line.text.strip()
        if text == HIGHLIGHT:
            parts.append([])
        elif text:
            parts[-1].append(text)
    highlights = [" ".join(part) for part in parts[1:] if part]
    return _doc(number, "\n\n".join(parts[0]), "\n".join(highlights), display_name(path))


def _doc(number: int, article: str, highlights: str, where: str) -> Doc:
    if not article.strip() or not highlights.strip():
        raise BadInput(f"{where} has no article or no highlights")
    return Doc(number, {"prompt": article.strip() + PROMPT_END, "highlights": highlights.strip()}, where)


CNN_DM = {"cnn-dm": Preset('summaries after "TL;DR:", ROUGE',
                           "JSONL with article and highlights, or .story files", _make,
                           {"rouge1": "cnn-dm-rouge1", "rouge2": "cnn-dm-rouge2", "rougeLsum": "cnn-dm-rougeL"})}
