"""Winograd schemas (Levesque et al. 2012): whom or what a pronoun means, by putting either name in its place.

Read are the collection's XML (schema, text with txt1, pron, txt2, answers, correctAnswer) and JSONL with text, pronoun,
pronoun_loc, options and label.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.paper_tasks.preset import (
    Preset,
    Source,
    holds_json,
    one_path,
    read_bytes,
    records_of,
    task_of,
    text_field,
)
from gpt2cli.evaluation.task import Doc, Task
from gpt2cli.records.streams import display_name

_POSSESSIVE = ("my", "his", "her", "its", "our", "their")
_ARTICLES = ("the", "a", "an", "his", "her", "its", "their", "my", "our", "this", "that", "these", "those", "one")
_NOTES = (
    "acc_partial compares P(what follows | text with the name), acc_full P(text with the name); the paper's 70.70 % is "
    "of partial scoring",
    "before the whole text stands end-of-text, and nothing before the text with the name; the paper states nothing",
    "a name that begins with an article or a possessive begins with a small letter inside a sentence; for my, his, "
    "her, its, our and their the name gets 's, as in lm_eval's wsc273",
)


def _make(name: str, source: Source) -> Task:
    path = one_path(name, source)
    data = read_bytes(path)
    if holds_json(data):
        docs = [_of_record(doc) for doc in records_of(data, path, source.loss)]
    else:
        docs = _of_xml(data, display_name(path))
    return task_of(name, "substitution", docs, ("acc_partial", "acc_full"), _NOTES, doc_to_text="sentence",
                   doc_to_choice="options", doc_to_target="label")


def _of_record(doc: Doc) -> Doc:
    text, pronoun, place = text_field(doc, "text"), text_field(doc, "pronoun"), doc.fields.get("pronoun_loc")
    options, label = doc.fields.get("options"), doc.fields.get("label")
    if not isinstance(place, int) or not isinstance(label, int) or not isinstance(options, list) or not all(
            isinstance(option, str) for option in options) or not 0 <= label < len(options):
        raise BadInput(f"{doc.where} is no schema: it needs text, pronoun, pronoun_loc, options and label")
    if place < 0 or text[place : place + len(pronoun)].lower() != pronoun.lower():
        raise BadInput(f"{doc.where}: at {place} of its text stands no {pronoun!r}")
    return _doc(doc.number, doc.where, text[:place], pronoun, text[place + len(pronoun) :], options, label)


def _of_xml(data: bytes, name: str) -> list[Doc]:
    if b"<!ENTITY" in data or b"<!entity" in data:
        raise BadInput(f"{name} defines entities, which no collection of schemas needs")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadInput(f"{name} is neither JSONL nor sound XML: {error}") from None
    docs = []
    for number, schema in enumerate(root.iter("schema")):
        where = f"{name} schema {number + 1}"
        first, pronoun, rest = (_words(schema, f"text/{part}") for part in ("txt1", "pron", "txt2"))
        options = [_squeezed(answer.text) for answer in schema.findall("answers/answer")]
        letter = _words(schema, "correctAnswer").strip(" .").upper()[:1]
        if not pronoun or not letter.isalpha() or not 0 <= ord(letter) - ord("A") < len(options):
            raise BadInput(f"{where} lacks its pronoun, its answers or the letter of the right one")
        docs.append(_doc(number, where, f"{first} " if first else "", pronoun, _spaced(rest), options,
                         ord(letter) - ord("A")))
    return docs


def _doc(number: int, where: str, head: str, pronoun: str, tail: str, options: list[str], label: int) -> Doc:
    tail = re.sub(r"\s+", " ", tail)
    fitted = [_fitted(option, pronoun, head) for option in options]
    return Doc(number, {"sentence": f"{head}_{tail}", "options": fitted, "label": label}, where)


def _fitted(option: str, pronoun: str, head: str) -> str:
    """Return an option as it stands in the pronoun's place."""
    first, _, others = option.strip().rstrip(".").partition(" ")
    inside = head.rstrip() and head.rstrip()[-1] not in ".!?\"“"
    if inside and others and first.lower() in _ARTICLES:
        first = first.lower()
    elif not inside:
        first = first[:1].upper() + first[1:]
    fitted = f"{first} {others}" if others else first
    return fitted + ("'s" if pronoun.lower() in _POSSESSIVE and not fitted.endswith("'s") else "")


def _words(schema: ElementTree.Element, path: str) -> str:
    return _squeezed(schema.findtext(path))


def _squeezed(text: str | None) -> str:
    return " ".join((text or "").split())


def _spaced(rest: str) -> str:
    return rest if not rest or rest[0] in ".,;:!?'" else f" {rest}"


WINOGRAD = {
    "winograd": Preset("Winograd schemas, partial and full scoring",
                       "the collection's XML, or JSONL with text, pronoun, pronoun_loc, options, label", _make,
                       {"acc_partial": "winograd"}),
}
