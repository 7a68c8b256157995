"""gpt2 detect train and gpt2 detect report: a detector from texts of both kinds, and how good it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console, say
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    OutputPath,
    Real,
    device_option,
    force_option,
    output_option,
    threads_option,
)
from gpt2cli.errors import UsageFault

_ENVIRONMENT = {"auto_envvar_prefix": "GPT2_DETECT"}
_SHARE = Real(0, 1, min_open=True, max_open=True)


class WordsOrAll(Count):
    """A number of words, or `all`, which is 0."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or fail with a usage error."""
        return 0 if value == "all" else super().convert(value, param, ctx)


def _text_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--generated", type=AnyPath(), multiple=True, required=True, metavar="FILE",
                     help="Generated texts: gpt2 sample --json, or as for --human; repeatable."),
        click.option("--human", type=AnyPath(), multiple=True, required=True, metavar="FILE",
                     help="Human texts: documents, JSONL with text, plain text, a directory; repeatable."),
    ):
        function = option(function)
    return function


@click.command("detect", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@_text_options
@click.option("--method", type=click.Choice(["tfidf", "logprob", "logrank"]), default="tfidf", show_default=True,
              help="Words and pairs by logistic regression; mean log-probability or log-rank under --model.")
@click.option("--model", type=AnyPath(), metavar="MODEL", help="The model that logprob and logrank score by.")
@click.option("--words", type=WordsOrAll(1), metavar="N|all",
              help="Cut every text to its first N words; default: as many as nine tenths of both kinds have.")
@click.option("--test-fraction", type=Real(0, 1, max_open=True), default=0.2, show_default=True, metavar="F",
              help="Share of the texts, chosen by hash, kept apart for gpt2 detect report.")
@device_option()
@threads_option()
@click.option("-o", "--output", required=True, type=OutputPath(), metavar="DETECTOR", help="The detector to write.")
@force_option()
@click.pass_obj
def train(
    console: Console, human: tuple[str, ...], generated: tuple[str, ...], method: str, model: str | None,
    words: int | None, test_fraction: float, device: str, threads: int | None, output: str, force: bool,
) -> None:
    """Train a detector on human and generated texts.

    Texts are cut to one length and divided by hash: to fit, to choose the regularization, to calibrate, to test.
    """
    from gpt2cli.detection.train import TrainConfig
    from gpt2cli.detection.train import train as train_detector
    from gpt2cli.records.streams import open_output

    if "-" in human and "-" in generated:
        raise UsageFault("standard input can't be both the human and the generated texts")
    config = TrainConfig(human, generated, method, model, words, test_fraction, device, threads)
    with open_output(output, force=force, binary=True, as_is=True) as stream:
        summary = train_detector(config, stream, console)
    for line in summary.sentences():
        console.note(line)


@click.command("detect", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@click.argument("detector", type=AnyPath(), metavar="DETECTOR")
@_text_options
@click.option("--length", "lengths", type=Count(1), multiple=True, metavar="N",
              help="Measure on the first N words; may be given several times; default: 8, 16, 32 and so on.")
@click.option("--max-false-positives", "rates", type=_SHARE, multiple=True, default=(0.1, 0.05, 0.01, 0.001),
              show_default=True, metavar="F", help="Tell the threshold for this rate; may be given several times.")
@click.option("--prevalence", "prevalences", type=_SHARE, multiple=True, default=(0.5, 0.1, 0.01), show_default=True,
              metavar="P", help="Tell what a verdict is worth where this share is generated; several times.")
@click.option("--model", type=AnyPath(), metavar="MODEL", help="The model of a logprob or logrank detector.")
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_obj
def report(
    console: Console, detector: str, human: tuple[str, ...], generated: tuple[str, ...], lengths: tuple[int, ...],
    rates: tuple[float, ...], prevalences: tuple[float, ...], model: str | None, device: str, threads: int | None,
    output: str, force: bool,
) -> None:
    """Measure a detector: accuracy and AUC with intervals, by length and sampling setting, calibration, thresholds.

    Texts that the detector was made with are left out, so the files that it was trained on can be given again.
    gpt2.detection-report records go to standard output, tables for people to standard error.
    """
    from gpt2cli.cli.detect_table import lines_of
    from gpt2cli.detection.report import ReportConfig
    from gpt2cli.detection.report import report as measure
    from gpt2cli.records.streams import open_output

    if [detector, *human, *generated].count("-") > 1:
        raise UsageFault("standard input can be one of the inputs only")
    config = ReportConfig(detector, human, generated, lengths, rates, prevalences, model, device, threads)
    with open_output(output, force=force) as stream:
        records = measure(config, stream, console, end=output == "-")
    if not click.get_current_context().meta.get("gpt2.quiet"):
        for line in lines_of(records):
            say(line)
