"""gpt2 detect: was a text written by a person or by a language model? Verbs: train, classify, report, show."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli import detect_show, detect_train
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import (
    AnyPath,
    Real,
    device_option,
    files_argument,
    force_option,
    output_option,
    threads_option,
)
from gpt2cli.cli.verbs import VerbCommand

_SHARE = Real(0, 1, min_open=True, max_open=True)


class Detect(VerbCommand):
    """The command `classify`, which hands over to another verb when the first argument names one."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the verb that is asked for; `classify` may be named too."""
        return super().make_context(info_name, args[1:] if args[:1] == ["classify"] else args, parent, **extra)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Write the verbs into the usage line."""
        return [f"[classify|{'|'.join(self.verbs)}]", *super().collect_usage_pieces(ctx)]


@click.command(
    "detect",
    cls=Detect,
    short_help="Tell generated text from human text, and say how surely.",
    epilog="Other verbs, each with its own --help: train (a detector from human and generated texts), report (how good "
    "a detector is), show (a text coloured by how likely a model finds its words).",
)
@click.argument("detector", type=AnyPath(), metavar="DETECTOR")
@files_argument()
@click.option("--max-false-positives", type=_SHARE, default=0.01, show_default=True,
              metavar="F", help="Say `generated` only where at most this share of human texts scores as high.")
@click.option("--max-false-negatives", type=_SHARE, default=0.01, show_default=True,
              metavar="F", help="Say `human` only where at most this share of generated texts scores as low.")
@click.option("--prevalence", type=_SHARE, default=0.5, show_default=True,
              metavar="P", help="The share of generated texts where these come from; it moves the probability.")
@click.option("--model", type=AnyPath(), default=None, metavar="MODEL",
              help="The model of a detector of the methods logprob and logrank.")
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_obj
def command(
    console: Console, detector: str, files: tuple[str, ...], max_false_positives: float, max_false_negatives: float,
    prevalence: float, model: str | None, device: str, threads: int | None, output: str, force: bool,
) -> None:
    """Say of each text how probable it is that a model wrote it, and a verdict: human, generated or undecided.

    DETECTOR is made by gpt2 detect train. FILE holds documents, samples or plain text; no FILE: standard input.
    """
    from gpt2cli.detection.classify import ClassifyConfig, classify
    from gpt2cli.records.streams import open_output

    config = ClassifyConfig(detector, files or ("-",), max_false_positives, max_false_negatives, prevalence, model,
                            device, threads)
    with open_output(output, force=force) as stream:
        summary = classify(config, stream, console, end=output == "-")
    console.note(summary.sentence())


Detect.verbs = {"train": detect_train.train, "report": detect_train.report, "show": detect_show.show}
