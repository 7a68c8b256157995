"""gpt2 fit-scaling optimal: N and D of a budget, in closed form or by search, and over networks that can be built."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, Count, Real, force_option, output_option
from gpt2cli.cli.scaling_options import (
    ENVIRONMENT,
    FLOPS_NOTE,
    law_options,
    the_law,
    warn_of_reach,
    write_records,
)
from gpt2cli.errors import UsageFault
from gpt2cli.sizes import GPT2_CONTEXT, GPT2_VOCAB_SIZE


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@law_options
@click.option("--flops", type=Amount(1), multiple=True, required=True, metavar="C",
              help="Budget in FLOP, repeatable. " + FLOPS_NOTE)
@click.option("--unique-tokens", type=Amount(1), metavar="U", help="How many different tokens there are (muennighoff).")
@click.option("--architectures", is_flag=True,
              help="Search networks of whole layers, widths and heads, each with its exact FLOP a token.")
@click.option("--context", type=Count(1), default=GPT2_CONTEXT, show_default=True, metavar="T",
              help="Context of --architectures.")
@click.option("--vocab-size", type=Count(1), default=GPT2_VOCAB_SIZE, show_default=True, metavar="V",
              help="Vocabulary of --architectures.")
@click.option("--attention", type=click.Choice(["causal", "full"]), default="causal", show_default=True,
              help="FLOP of the attention a token: 6 L T d (causal half) or 12 L T d (all, as PaLM and nanoGPT count).")
@click.option("--aspect", nargs=2, type=Real(1, 1e6), default=(32.0, 128.0), show_default=True, metavar="LOW HIGH",
              help="Width over depth of the networks.")
@click.option("--within", type=Real(0, 1), default=0.01, show_default=True, metavar="X",
              help="Also say what stays within this share of the best loss.")
@output_option()
@force_option()
@click.pass_obj
def optimal(
    console: Console, law: str | None, fit_file: str | None, flops: tuple[int, ...], unique_tokens: int | None,
    architectures: bool, context: int, vocab_size: int, attention: str, aspect: tuple[float, float], within: float,
    output: str, force: bool,
) -> None:  # fmt: skip
    """Find the N and D that make the most of a budget of C FLOP.

    In closed form where the law has one, by search elsewhere; --architectures: over networks that can be built.
    """
    from gpt2cli.scaling import answers, study

    known = answers.with_unique_tokens(the_law(law, fit_file), unique_tokens)
    head: dict[str, Any] = {"law": known.name, "kind": "optimal", "count": known.count, "source": known.source,
                            "flops_per_nd": 6.0}  # fmt: skip
    if unique_tokens is not None:
        head["unique_tokens"] = float(unique_tokens)
    records = [study.rounded({**head, **answers.at_optimum(known, float(budget))}) for budget in flops]
    if architectures:
        found = _built(known, records, (context, vocab_size), attention, aspect, within)
        write_records("gpt2.plan", found, output, force)
        _show_built(known, found, records)
    else:
        write_records("gpt2.plan", records, output, force)
        _show(known, records)
    warn_of_reach(console, known, records)


def _built(
    known: Any, closed: list[dict[str, Any]], data: tuple[int, int], attention: str, aspect: tuple[float, float],
    within: float,
) -> list[dict[str, Any]]:  # fmt: skip
    from gpt2cli.scaling import answers, architectures, study

    if aspect[0] > aspect[1]:
        raise UsageFault(f"--aspect {aspect[0]:g} {aspect[1]:g}: the lower end comes first")
    shapes = list(architectures.networks(*data, aspect))
    records = []
    for record in closed:
        ranked = architectures.evaluate(
            answers.of_n_and_d(known), record["flops"], shapes, count=known.count, full_attention=attention == "full"
        )
        best, flat = ranked[0], architectures.flatness(ranked, within)
        records.append(study.rounded({
            **{key: record[key] for key in ("law", "count", "source", "flops")},
            "kind": "architecture",
            "attention": attention,
            "n_layer": best.shape.n_layer, "n_embd": best.shape.n_embd, "n_head": best.shape.n_head,
            "n_ctx": best.shape.n_ctx, "n_vocab": best.shape.n_vocab,
            "n_params": best.shape.n_params, "n_params_non_embedding": best.shape.n_params_non_embedding,
            "n": best.n, "d": best.d, "flops_per_token": best.flops_per_token, "loss_nats": best.loss,
            "n_opt": record["n_opt"], "d_opt": record["d_opt"],
            "within": {"share": flat.share, "networks": flat.networks, "of": len(ranked), "n": list(flat.n),
                       "d": list(flat.d), "n_layer": list(flat.n_layer), "n_embd": list(flat.n_embd)},
        }))  # fmt: skip
    return records


def _show(known: Any, records: list[dict[str, Any]]) -> None:
    from gpt2cli.cli.scaling_tables import show_plans

    show_plans(known.name, known.source, known.count, records)


def _show_built(known: Any, records: list[dict[str, Any]], closed: list[dict[str, Any]]) -> None:
    from gpt2cli.cli.scaling_tables import loss_text, short, show

    formula = {"causal": "6 (12 L d^2 + V d) + 6 L T d, causal half of the attention",
               "full": "6 (12 L d^2 + V d) + 12 L T d, all of the attention"}[records[0]["attention"]]  # fmt: skip
    rows = [
        (f"{one['flops']:.3g}", str(one["n_layer"]), str(one["n_embd"]), str(one["n_head"]), short(one["n"]),
         short(one["d"]), f"{one['flops_per_token']:.4g}", loss_text(one["loss_nats"]), short(plain["n_opt"]),
         short(plain["d_opt"]), loss_text(plain["loss_nats"]))
        for one, plain in zip(records, closed, strict=True)
    ]  # fmt: skip
    show(f"{known.name} over networks (context {records[0]['n_ctx']:,}, vocabulary {records[0]['n_vocab']:,}, "
         f"N: {known.count} parameters; FLOP a token = {formula})",
         ("C in FLOP", "layers", "width", "heads", "N", "D", "FLOP/token", "loss", "6ND: N", "D", "loss"), rows)
    flat = []
    for one in records:
        near = one["within"]
        counts = [f"{short(near[name][0])} to {short(near[name][1])}" for name in ("n", "d")]
        ranges = [f"{near[name][0]} to {near[name][1]}" for name in ("n_layer", "n_embd")]
        flat.append((f"{one['flops']:.3g}", f"{near['networks']:,} of {near['of']:,}", *counts, *ranges))
    show(f"How flat: within {100 * records[0]['within']['share']:g} % of the best loss",
         ("C in FLOP", "networks", "N", "D", "layers", "width"), flat)
