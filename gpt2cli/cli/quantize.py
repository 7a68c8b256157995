"""gpt2 quantize: weights in 8 or 4 bits, and what that costs and gains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import AnyPath, NewDirectory, device_option, force_option, threads_option

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console
    from gpt2cli.evaluation.quantise_model import QuantiseSummary


@click.command("quantize", cls=Gpt2Command, short_help="Weights in 8 or 4 bits: smaller and faster.")
@click.argument("model", required=False, metavar="[MODEL]", envvar="GPT2_MODEL", type=AnyPath())
@click.option("--bits", type=click.Choice(["8", "4"]), required=True, help="Bits a weight.")
@click.option("--group-size", type=click.Choice(["32", "64", "128", "256"]),
              help="In 4 bits: inputs that share a scale and an offset. Default 32, the most exact.")
@click.option("--text", "texts", multiple=True, type=AnyPath(), metavar="FILE",
              help="Evaluate original and quantised on this text; may be given several times.")
@device_option()
@threads_option()
@click.option("-o", "--output", required=True, type=NewDirectory(), metavar="DIR", help="The model to make.")
@force_option()
@click.pass_obj
def command(console: Console, model: str | None, bits: str, group_size: str | None, texts: tuple[str, ...],
            device: str, threads: int | None, output: str, force: bool) -> None:
    """Store MODEL's matrices in 8 or 4 bits a weight; `gpt2 sample` and `gpt2 eval-ppl` take the result as a MODEL.

    Without MODEL: $GPT2_MODEL, else the newest run under runs/.
    """
    if group_size is not None and bits == "8":
        raise click.UsageError("--group-size is for --bits 4; in 8 bits every output has one scale")
    from gpt2cli.evaluation.quantise_model import QuantiseConfig, quantise_model
    from gpt2cli.sampling.open_model import ModelChoice

    choice = ModelChoice(model, device, "fp32", threads)
    group = None if group_size is None else int(group_size)
    summary = quantise_model(QuantiseConfig(choice, int(bits), output, group, texts, force), console)
    form = summary.form.name + (f" in groups of {summary.form.group}" if summary.form.group else "")
    console.note(f"{summary.directory}: {summary.shape.n_params:,} parameters, {form}, "
                 f"{summary.quantised.n_bytes:,} bytes, {summary.quantised.n_bytes / summary.original.n_bytes:.3f} of "
                 "the original")
    if texts:
        for line in table(summary):
            click.echo(line)


def table(summary: QuantiseSummary) -> list[str]:
    """Return original and quantised side by side, and their ratios."""
    before, after = summary.original, summary.quantised
    assert before.tokens_per_second is not None and after.tokens_per_second is not None
    assert before.nll_nats is not None and after.nll_nats is not None
    rows = [
        ("", "original", "quantised", "ratio"),
        ("bytes", f"{before.n_bytes:,}", f"{after.n_bytes:,}", f"{after.n_bytes / before.n_bytes:.3f}"),
        ("perplexity", _shown(before.perplexity), _shown(after.perplexity),
         f"{math.exp(change):.5f}" if abs(change := after.nll_nats - before.nll_nats) < 700 else "-"),
        ("nats per token", f"{before.nll_nats:.5f}", f"{after.nll_nats:.5f}",
         f"{after.nll_nats - before.nll_nats:+.5f}"),
        ("decodes in", str(before.dtype), str(after.dtype), ""),
        ("tokens/s", f"{before.tokens_per_second:.1f}", f"{after.tokens_per_second:.1f}",
         f"{after.tokens_per_second / before.tokens_per_second:.2f}"),
    ]
    return [f"{name:<15}{a:>14}{b:>14}{c:>10}".rstrip() for name, a, b, c in rows]


def _shown(perplexity: float | None) -> str:
    return "beyond count" if perplexity is None else f"{perplexity:.4f}" if perplexity < 1e6 else f"{perplexity:.4g}"
