"""gpt2 fit-scaling compare: strategies at one budget, runs against a reference, and where Kaplan's laws cross."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, Real, files_argument, force_option, output_option
from gpt2cli.cli.scaling_options import ENVIRONMENT, law_options, the_law, warn_of_reach, write_records
from gpt2cli.cli.scaling_shapes import compare_shapes
from gpt2cli.errors import UsageFault


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@files_argument()
@law_options
@click.option("--flops", type=Amount(1), metavar="C", help="Compare ways to spend C FLOP.")
@click.option("--n", "sizes", type=Amount(1), multiple=True, metavar="N", help="With --flops: a size; repeatable.")
@click.option("--tokens-per-parameter", "ratios", type=Real(1e-12, 1e12), multiple=True, metavar="R",
              help="With --flops: D/N; repeatable.")
@click.option("--reference", metavar="RUN", help="Compare the runs of FILE with this one, by its name's beginning.")
@click.option("--shapes", is_flag=True, help="Compare runs of FILE of one size by their depth, width and heads.")
@click.option("--crossing", is_flag=True, help="Where Kaplan's law of compute crosses his law of data.")
@output_option()
@force_option()
@click.pass_obj
def compare(
    console: Console, files: tuple[str, ...], law: str | None, fit_file: str | None, flops: int | None,
    sizes: tuple[int, ...], ratios: tuple[float, ...], reference: str | None, shapes: bool, crossing: bool, output: str,
    force: bool,
) -> None:  # fmt: skip
    """Compare ways to spend a budget, or runs with a reference: how much compute would have given the same loss?

    --flops: strategies under a law. --crossing: no more. Else the runs of FILE (run directories or metrics.jsonl; none:
    standard input) with --reference RUN, with each other (--shapes), or with the best use of compute by --law or --fit.
    """
    if crossing + shapes + (flops is not None) + (reference is not None) > 1:
        raise UsageFault("--flops, --reference, --shapes and --crossing are four different questions: ask one")
    if shapes and (law is not None or fit_file is not None):
        raise UsageFault("--shapes compares runs with each other, not with a law: leave out --law and --fit")
    if (sizes or ratios) and flops is None:
        raise UsageFault("--n and --tokens-per-parameter need a budget: --flops")
    if files and (crossing or flops is not None):
        raise UsageFault("runs in FILE are compared with --reference, --law or --fit, not with --flops or --crossing")
    if shapes:
        compare_shapes(console, files or ("-",), output, force)
    elif crossing:
        _crossing(law, fit_file, output, force)
    elif flops is not None:
        _strategies(console, the_law(law, fit_file), flops, sizes, ratios, output, force)
    else:
        _runs(console, files or ("-",), reference, law, fit_file, output, force)


def _crossing(law: str | None, fit_file: str | None, output: str, force: bool) -> None:
    from gpt2cli.cli.scaling_tables import short, show
    from gpt2cli.scaling.crossing import crossing
    from gpt2cli.scaling.study import rounded

    if fit_file is not None or law not in (None, "kaplan-t5"):
        raise UsageFault("--crossing is of kaplan-t5; no other law has a fit of compute and one of data apart")
    found = crossing()
    record = rounded({
        "law": "kaplan-t5", "flops": found.c_min, "kind": "crossing", "count": "non-embedding",
        "source": "Kaplan et al. 2020, section 6.3 (arXiv 2001.08361)", "pf_days": found.pf_days, "n": found.n,
        "d": found.d, "loss_nats": found.loss,
    })  # fmt: skip
    write_records("gpt2.plan", [record], output, force)
    show("Where L(C_min) meets L(D(C_min)), so that the laws must break (orders of magnitude, says the paper)",
         ("C_min in PF-days", "N", "D", "loss"),
         [(f"{found.pf_days:.3g}", short(found.n), short(found.d), f"{found.loss:.2f}")])  # fmt: skip


def _strategies(
    console: Console, known: Any, flops: int, sizes: tuple[int, ...], ratios: tuple[float, ...], output: str,
    force: bool,
) -> None:  # fmt: skip
    from gpt2cli.cli.scaling_tables import filled, interval_text, loss_text, short, show
    from gpt2cli.scaling.answers import of_n_and_d
    from gpt2cli.scaling.resampled_answers import strategy_intervals
    from gpt2cli.scaling.strategies import strategies
    from gpt2cli.scaling.study import rounded

    found = strategies(of_n_and_d(known), float(flops), [float(size) for size in sizes], ratios)
    spread = [{}] * len(found) if known.boot is None else strategy_intervals(known.boot, float(flops), found)
    records = [
        rounded({"law": known.name, "flops": one.flops, "kind": "strategy", "count": known.count,
                 "source": known.source, "strategy": one.name, "n": one.n, "d": one.d, "loss_nats": one.loss,
                 "flops_for_same_loss": one.least, "wasted": one.wasted, **intervals})
        for one, intervals in zip(found, spread, strict=True)
    ]  # fmt: skip
    write_records("gpt2.plan", records, output, force)
    show(f"{known.name}: ways to spend {float(flops):.3g} FLOP (C = 6 N D, N: {known.count} parameters)",
         *filled(("", "N", "D", "D/N", "loss", "95 % interval", "same loss for", "wasted", "95 % interval"),
                 [(one.name, short(one.n), short(one.d), f"{one.d / one.n:.3g}", loss_text(one.loss),
                   interval_text(intervals.get("loss_nats_interval"), loss_text),
                   "no budget" if one.least is None else f"{one.least:.3g}",
                   "" if one.wasted is None else f"{100 * one.wasted:.0f} %",
                   interval_text(intervals.get("wasted_interval"), lambda share: f"{100 * share:.0f} %"))
                  for one, intervals in zip(found, spread, strict=True)]))  # fmt: skip
    warn_of_reach(console, known, records)


def _runs(
    console: Console, files: tuple[str, ...], reference: str | None, law: str | None, fit_file: str | None,
    output: str, force: bool,
) -> None:  # fmt: skip
    from gpt2cli.cli.scaling_tables import loss_text, short, show
    from gpt2cli.scaling.answers import of_n_and_d
    from gpt2cli.scaling.comparison import against_law, against_run, evaluations_of, read_runs
    from gpt2cli.scaling.study import rounded

    if (reference is None) == (law is None and fit_file is None):
        raise UsageFault("compare runs by --reference RUN or a law by --law or --fit, or give --flops or --crossing")
    known = None if reference is not None else the_law(law, fit_file)
    runs = read_runs(files, console)
    found = against_run(runs, str(reference)) if known is None else against_law(runs, of_n_and_d(known))
    name = reference if known is None else known.name
    records = [
        rounded({"law": name, "flops": one.flops, "kind": "comparison", "run": one.run, "n": one.n, "d": one.tokens,
                 "loss_nats": one.loss, "decayed": one.decayed, "flops_of_reference": one.reference,
                 "before_first_evaluation": one.before,
                 "flops_of_reference_more_than": one.more_than, "flops_of_reference_less_than": one.less_than,
                 "compute_multiplier": one.multiplier, "flops_to_reference_loss": one.own_for_reference})
        for one in found
    ]  # fmt: skip
    write_records("gpt2.plan", records, output, force)
    show(f"FLOP for the same loss: each run beside {name}",
         ("run", "N", "D", "loss", "FLOP", "reference needs", "times", "FLOP to its loss"),
         [(one.run, short(one.n), short(one.tokens), loss_text(one.loss), f"{one.flops:.3g}",
           _needed(one),
           "" if one.multiplier is None else f"{one.multiplier:.3g}",
           "" if one.own_for_reference is None else f"{one.own_for_reference:.3g}")
          for one in found])  # fmt: skip
    early = [one.run for one in found if not one.decayed]
    if early:
        console.warn(f"{early[0]} was measured before its learning rate had decayed ({len(early)} such runs): its loss "
                     "is higher than its compute deserves")  # fmt: skip
    if known is None and evaluations_of(runs, str(reference)) == 1:
        console.warn(f"{reference} has one evaluation, so its compute for another loss has one end only; gpt2 train "
                     "--eval-every measures it on its way, and a law by --law or --fit knows all of it")  # fmt: skip
    elif known is None:
        console.warn("losses in the middle of the reference lie above those of a run that ends there with a decayed "
                     "rate: its compute is overstated, unless its rate is constant")  # fmt: skip


def _needed(one: Any) -> str:
    if one.reference is not None:
        return f"{one.reference:.3g}"
    if one.less_than is not None:
        return f"less than {one.less_than:.3g}"
    return "never gets there" if one.more_than is None else f"more than {one.more_than:.3g}"
