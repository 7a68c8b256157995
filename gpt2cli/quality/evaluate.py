"""The eval-text command's work: one set of texts, or two side by side, to gpt2.text-quality/1 records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.quality.documents import Text, TextSource, n_skipped, read_texts
from gpt2cli.quality.measures import SetOfTexts, Settings
from gpt2cli.quality.references import POSITION, Paired, pair
from gpt2cli.quality.uncertainty import Estimate, difference
from gpt2cli.quality.units import UnitIds
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.document_batch import DocumentTally

if TYPE_CHECKING:
    from gpt2cli.quality.likelihood import Judge
    from gpt2cli.sampling.open_model import ModelChoice

Write = Callable[[str, dict[str, Any]], None]
"""Takes a record: its kind and its fields."""
CONTINUATION, WHOLE = "continuation", "whole"
THE_TEXT, THE_OTHER = "text", "against"


@dataclass(frozen=True)
class QualityConfig:
    """Everything `gpt2 eval-text` was asked for, but where its records go.

    source: the texts; its key is set by pair. references, against: the files of each, none where not wanted. pair:
    "position", or the field by which texts and references are paired. unit, vocab: see UnitIds. model: None for no
    likelihood; context and stride None: the protocol's own. per_document: records of documents too.
    """

    source: TextSource = field(default_factory=TextSource)
    references: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    pair: str = POSITION
    unit: str = "word"
    vocab: str | None = None
    model: ModelChoice | None = None
    context: int | None = None
    stride: int | None = None
    settings: Settings = field(default_factory=Settings)
    per_document: bool = False


@dataclass(frozen=True)
class QualitySummary:
    """The records' fields: of the texts, and with a second set of that and of the difference (texts less the other)."""

    text: dict[str, Any]
    against: dict[str, Any] | None = None
    difference: dict[str, Any] | None = None


def evaluate_texts(config: QualityConfig, reporter: Reporter, write: Write = lambda kind, fields: None
                   ) -> QualitySummary:
    """Measure and `write` a gpt2.text-quality/1 record for each set, a gpt2.text-quality-diff/1 for two.

    Raises BadInput when there is no text, or what can't be paired or read; what open_model and load_vocabulary raise;
    Interrupted when asked to stop.
    """
    if [*(config.source.paths or ("-",)), *config.references, *config.against].count("-") > 1:
        raise UsageFault("standard input can be only one of the texts, --references and --against")
    key = None if config.pair == POSITION or not config.references else config.pair
    texts = _read(replace(config.source, key=key), "the texts", reporter, bool(config.references) and key is None)
    paired = _paired(config, texts, key, reporter)
    other = _read(replace(config.source, paths=config.against), "--against", reporter) if config.against else None
    if other is not None:
        config = replace(config, settings=_same_references(config.settings, texts, other))
    judge = _judge(config, reporter)
    units = UnitIds(config.unit, config.vocab)
    record, found = _measure(config, THE_TEXT, texts, units, paired, judge, reporter, write)
    if other is None:
        return QualitySummary(record)
    beside, theirs = _measure(config, THE_OTHER, other, units, None, judge, reporter, write)
    less = _difference(config, record, beside, found, theirs)
    write("gpt2.text-quality-diff", less)
    return QualitySummary(record, beside, less)


def _judge(config: QualityConfig, reporter: Reporter) -> Judge | None:
    if config.model is None:
        return None
    from gpt2cli.quality.likelihood import Judge  # brings torch, which nothing else here needs

    return Judge(config.model, config.context, config.stride, reporter)


def _same_references(settings: Settings, texts: list[Text], other: list[Text]) -> Settings:
    """Return settings with as many references in self-BLEU as both sets have, or values would not compare."""
    fewest = min(sum(bool(text.text.strip()) for text in some) for some in (texts, other)) - 1
    return replace(settings, self_bleu_references=min(settings.self_bleu_references, max(fewest, 1)))


def _read(source: TextSource, what: str, reporter: Reporter, whole: bool = False) -> list[Text]:
    """Read a set; `whole`: a record that gives no text would put all after it out of place."""
    tally = DocumentTally()
    texts = read_texts(source, tally)
    for line in tally.sentences():
        reporter.warn(f"{what}: {line}" if what != "the texts" else line)
    if whole and n_skipped(tally):
        raise BadInput(f"{n_skipped(tally):,} records of {what} have no text, so positions say nothing of what belongs "
                       "together; --pair FIELD pairs by a field")
    if not any(text.text for text in texts):
        raise BadInput(f"there is no text to measure: {what} have no document with a character" if what == "the texts"
                       else f"{what}: there is no document with a character in it")
    return texts


def _paired(config: QualityConfig, texts: list[Text], key: str | None, reporter: Reporter) -> Paired | None:
    if not config.references:
        return None
    source = replace(config.source, paths=config.references, key=key)
    paired = pair(texts, _read(source, "--references", reporter, key is None), config.pair)
    if missing := len(texts) - paired.n_paired:
        reporter.warn(f"{missing:,} of {len(texts):,} texts have no reference with the same `{config.pair}`, and are "
                      "left out of BLEU and ROUGE")
    if paired.n_unused:
        reporter.warn(f"{paired.n_unused:,} references belong to no text")
    return paired


def _measure(config: QualityConfig, name: str, texts: list[Text], units: UnitIds, paired: Paired | None,
             judge: Judge | None, reporter: Reporter, write: Write) -> tuple[dict[str, Any], dict[str, Estimate]]:
    settings = config.settings
    settings = replace(settings, resampling=replace(settings.resampling, stream=int(name == THE_OTHER)))
    measured = SetOfTexts(texts, units, settings, reporter, paired, judge)
    if config.per_document:
        for number in range(len(texts)):
            write("gpt2.text-quality-document", {"set": name, **measured.document(number)})
    found = measured.estimates()
    resampling = settings.resampling
    record = {
        "set": name, "measures": {key: estimate.as_fields() for key, estimate in found.items()}, **measured.facts(),
        "part": WHOLE if config.source.whole else CONTINUATION, "unit": units.name, "unit_definition": units.definition,
        **({} if units.tokenizer_sha256 is None else {"tokenizer_sha256": units.tokenizer_sha256}),
        "distinct_at": settings.distinct_at, "zipf_ranks": settings.zipf_ranks, "seed": resampling.seed,
        "bootstrap": {"resamples": resampling.resamples, "level": resampling.level},
    }
    if paired is not None:
        record["references"] = {"pair": config.pair, "n_paired": paired.n_paired,
                                "n_unpaired": len(texts) - paired.n_paired, "n_unused": paired.n_unused}
    if judge is not None:
        record["model"] = judge.as_fields()
    write("gpt2.text-quality", record)
    return record, found


def _difference(config: QualityConfig, record: dict[str, Any], beside: dict[str, Any], found: dict[str, Estimate],
                theirs: dict[str, Estimate]) -> dict[str, Any]:
    level = config.settings.resampling.level
    measures = {}
    for name in (name for name in found if name in theirs):
        fields = difference(found[name], theirs[name], level).as_fields()
        fields["method"] = fields["method"] and f"two {fields['method']}s, independent"
        del fields["n_documents"]
        measures[name] = fields
    return {"text_sha256": record["text_sha256"], "against_sha256": beside["text_sha256"],
            "n_documents": [record["n_documents"], beside["n_documents"]], "level": level, "measures": measures}
