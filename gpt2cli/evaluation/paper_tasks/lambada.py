"""LAMBADA (Paperno et al. 2016): the last word of a passage, in the ways that published numbers were measured."""

from __future__ import annotations

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.detokenize import detokenize
from gpt2cli.evaluation.paper_tasks.preset import (
    Preset,
    Source,
    holds_json,
    lines_of,
    one_path,
    read_bytes,
    records_of,
    task_of,
    text_field,
)
from gpt2cli.evaluation.task import Doc, Task

BEAM = 128
_DATA = "JSONL with the passage in `text`, taken as it is, or one passage a line, de-tokenised"
_UNSTATED = "the paper states neither the text's form nor how a word is predicted; no end-of-text stands before it"


def _passages(name: str, source: Source) -> tuple[list[tuple[str, str]], str]:
    """Return (text, where) of each passage, and a sentence about their form."""
    path = one_path(name, source)
    data = read_bytes(path)
    if holds_json(data):
        found = [(text_field(doc, "text").strip(), doc.where) for doc in records_of(data, path, source.loss)]
        return found, "the passages are taken as they are"
    found, kept = [], 0
    for line in lines_of(data, path, source.loss):
        if line.text.strip():
            ordinary = detokenize("lambada", line.text)
            kept += len(ordinary.passed)
            found.append((ordinary.text.strip(), line.where))
    return found, f"the passages are de-tokenised (lambada), but for {kept} that could not be undone"


def _split(name: str, source: Source) -> tuple[list[Doc], str]:
    found, form = _passages(name, source)
    docs = []
    for number, (text, where) in enumerate(found):
        parts = text.rsplit(None, 1)
        if len(parts) < 2:
            raise BadInput(f"{where}: the passage has fewer than two words, so no last word can be asked for")
        docs.append(Doc(number, {"text": text, "context": text[: -len(parts[1])].rstrip(), "word": parts[1]}, where))
    return docs, form


def _word(name: str, source: Source) -> Task:
    docs, form = _split(name, source)
    notes = (_UNSTATED, form, "the last word is right if each of its tokens is the most probable one (acc); its "
             "perplexity is that of the whole word",
             "lm_eval's lambada_openai has 32.56 % and 40.06 for the 117M model")
    return task_of(name, "cloze", docs, ("acc", "perplexity"), notes, doc_to_text="text")


def _token(name: str, source: Source) -> Task:
    docs, form = _split(name, source)
    notes = (_UNSTATED, form, "only the last token of the passage is predicted, which is easier than its last word",
             "others measured 46.67 % for the 117M model")
    return task_of(name, "last_token", docs, ("acc", "perplexity"), notes, doc_to_text="text", doc_to_target="word")


def _searched(name: str, source: Source) -> Task:
    docs, form = _split(name, source)
    stop_words = name == "lambada-stop-words"
    notes = (_UNSTATED, form, f"the most probable whole word is sought by a beam of {BEAM}: a space and letters, then "
             "something that ends the word",
             *(("words of an own list of English function words are no answers", "others measured 41.98 % for the 117M "
                "model with beams and stop words") if stop_words else ()))
    return task_of(name, "last_word", docs, ("acc",), notes, doc_to_text="context", doc_to_target="word",
                   generation={"beam": BEAM, "stop_words": stop_words})


LAMBADA = {
    "lambada": Preset("the last word, each token the most probable", _DATA, _word,
                      {"acc": "lambada-acc-plain", "perplexity": "lambada-ppl"}),
    "lambada-token": Preset("the last token", _DATA, _token, {"acc": "lambada-acc"}),
    "lambada-beam": Preset("the most probable last word", _DATA, _searched, {"acc": "lambada-acc-plain"}),
    "lambada-stop-words": Preset("the most probable last word that is no function word", _DATA, _searched,
                                 {"acc": "lambada-acc"}),
}
