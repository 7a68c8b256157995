"""Step 4: documents -> those that pass every rule, in their order, with the language they are in.

A document is dropped by the first rule it fails. Rules for lines take lines out of its text, which then has a new id.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.jsonl import ReadTally, Record, encode_record, parse_line
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema
from gpt2cli.records.streams import display_name, open_input, proves_its_end
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.end_watch import EndWatch
from gpt2cli.tokens.ordered_pool import OrderedPool
from gpt2cli.webtext.line_blocks import LineBlock, line_blocks
from gpt2cli.webtext.rule import Page, Rule, Settings
from gpt2cli.webtext.rule_set import RuleSet
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.text_view import TextView

NO_TEXT = "no text left"
NOT_UNICODE = "lone surrogate"


@dataclass(frozen=True)
class Dropped:
    """A document that is left out: its URL or id, why, and what was measured beside which limit."""

    what: str
    reason: str
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass
class FilteredLines:
    """What a block of lines came to: the records kept, the documents dropped, lines passed over by reason, and how many
    lines of texts each rule took out.
    """

    read: int = 0
    records: list[bytes] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    line_counts: dict[str, int] = field(default_factory=dict)


class DocumentFilter:
    """Applies rules to documents."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules

    def __call__(self, block: LineBlock) -> FilteredLines:
        """Return what the lines of a block come to. Raises BadInput for one that is no JSON object."""
        done = FilteredLines()
        for number, line in block.lines():
            if not line.strip():
                continue
            record = _document(line, block.place(number), done.skipped)
            if record is None:
                continue
            done.read += 1
            result = self.judge(record, done.line_counts)
            if isinstance(result, Dropped):
                done.dropped.append(result)
            else:
                done.records.append(encode_record("gpt2.document", result))
        return done

    def judge(self, document: Record, line_counts: dict[str, int]) -> Record | Dropped:
        """Return the document (fields without schema) as it is kept, or why it is not.

        line_counts: lines taken out are counted here, by rule.
        """
        text, url = document["text"], document.get("url")
        if not _is_unicode(document):
            return Dropped(ascii(url or document.get("id")), NOT_UNICODE)
        page = Page(url if isinstance(url, str) else None, TextView(text))
        what = page.url or str(document["id"])
        for rule, settings in self._rules.rules:
            if rule.change is not None:
                changed = _changed(rule, settings, page.view.text, line_counts)
                if changed != page.view.text:
                    page.view = TextView(changed)
                continue
            failed = _failure(rule, settings, page)
            if failed is not None:
                return Dropped(what, rule.name, failed)
        if not page.view.text.strip():
            return Dropped(what, NO_TEXT)
        kept = {**document, "text": page.view.text}
        if page.view.text != text:
            kept["id"] = text_id(page.view.text)
        if page.language is not None:
            kept["language"] = page.language
        return kept


def text_id(text: str) -> str:
    """Return the id of a document: the sha256 of its text's UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def _changed(rule: Rule, settings: Settings, text: str, counts: dict[str, int]) -> str:
    assert rule.change is not None
    kept = []
    for line in text.split("\n"):
        changed = rule.change(line, settings) if line.strip() else line
        if changed is not None:
            kept.append(changed)
        if changed != line:
            counts[rule.name] = counts.get(rule.name, 0) + 1
    return "\n".join(kept)


def _failure(rule: Rule, settings: Settings, page: Page) -> dict[str, Any] | None:
    assert rule.measure is not None
    value = rule.measure(page, settings)
    for name, beyond in (("minimum", value < settings.get("minimum", 0)),
                         ("maximum", "maximum" in settings and value > settings["maximum"])):
        if beyond:
            return {"value": round(value, 6), name: settings[name]}
    return None


def _document(line: bytes, where: str, skipped: dict[str, int]) -> Record | None:
    """Return a line's document without its schema, with an id; None for something else, which is counted."""
    record = parse_line(line, where)
    parsed = parse_schema(record.get("schema"))
    ours = parsed is not None and parsed[0].startswith("gpt2.")
    if parsed is not None and ours:
        kind, version = parsed
        if kind in SCHEMAS and version > SCHEMAS[kind][0]:
            raise newer_format(where, kind, version)
        if kind != "gpt2.document":
            if kind != "gpt2.end":
                reason = f"{kind[:40]} records"
                skipped[reason] = skipped.get(reason, 0) + 1
            return None
    text = record.get("text")
    if not isinstance(text, str):
        if ours:
            raise BadInput(f"{where}: a gpt2.document record without text")
        skipped["records without text"] = skipped.get("records without text", 0) + 1
        return None
    identity = record.get("id") if ours else None
    if not isinstance(identity, str):
        identity = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"id": identity, **{name: value for name, value in record.items() if name not in ("schema", "id")}}


def _is_unicode(value: Any) -> bool:
    if isinstance(value, str):
        try:
            return value.isascii() or bool(value.encode())
        except UnicodeEncodeError:
            return False
    if isinstance(value, dict):
        return all(_is_unicode(name) and _is_unicode(entry) for name, entry in value.items())
    return not isinstance(value, list) or all(map(_is_unicode, value))


def filtered_lines(
    paths: Sequence[str | os.PathLike[str]], rules: RuleSet, tally: StepTally, reporter: Reporter, jobs: int = 1
) -> Iterator[bytes]:
    """Yield the gpt2.document/1 lines of the documents in `paths` (`-`: stdin) that pass, in order.

    Foreign JSONL with a `text` is taken too. What is no document is passed over, counted and told. jobs: processes;
    the result is the same. Raises BadInput for a line that is no JSON object, or a damaged or cut .zst.
    """
    work = DocumentFilter(rules)
    read = ReadTally()
    line_counts: dict[str, int] = {}
    pool: OrderedPool[LineBlock, FilteredLines] | None = OrderedPool(jobs, work) if jobs > 1 else None
    blocks = _blocks(paths, read)
    if pool is None:
        yield from _collected(map(work, blocks), read, line_counts, tally, reporter)
    else:
        with pool:
            yield from _collected(pool.map(blocks), read, line_counts, tally, reporter)
    for warning in read.warnings:
        reporter.warn(warning)
    if read.skipped:
        reporter.note("skipped " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(read.skipped.items())))
    for name in rules.names:
        if name in line_counts:
            reporter.note(f"{name}: {line_counts[name]:,} lines of texts changed or taken out")


def _collected(results: Iterator[FilteredLines], read: ReadTally, line_counts: dict[str, int], tally: StepTally,
               reporter: Reporter) -> Iterator[bytes]:
    for done in results:
        tally.read += done.read
        tally.kept += len(done.records)
        for dropped in done.dropped:
            tally.drop(dropped.what, dropped.reason, **dropped.measured)
        for total, counts in ((read.skipped, done.skipped), (line_counts, done.line_counts)):
            for reason, count in counts.items():
                total[reason] = total.get(reason, 0) + count
        yield from done.records
        reporter.progress(tally.read, None, "documents", kept=f"{tally.kept:,}")
        if reporter.stopping():
            raise Interrupted("stopped while filtering; the same command begins this step anew")


def _blocks(paths: Sequence[str | os.PathLike[str]], read: ReadTally) -> Iterator[LineBlock]:
    for path in paths:
        name = display_name(path)
        with open_input(path) as stream:
            watch = EndWatch(name, read, str(path) == "-" and not proves_its_end(stream))
            for block in line_blocks(stream, name):
                watch.pass_lines(block.data)
                yield block
            watch.finish()
