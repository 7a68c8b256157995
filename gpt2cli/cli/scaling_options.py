"""What the verbs of gpt2 fit-scaling share: which law answers, and where the records go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gpt2cli.cli.console import Console
from gpt2cli.cli.options import AnyPath
from gpt2cli.errors import UsageFault

ENVIRONMENT = {"auto_envvar_prefix": "GPT2_FIT_SCALING"}
FLOPS_NOTE = "FLOP are counted as C = 6 N D."


def law_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb --law and --fit."""
    function = click.option(
        "--fit",
        "fit_file",
        metavar="FILE",
        type=AnyPath(),
        help="A law fitted before: the -o FILE of gpt2 fit-scaling, - for stdin.",
    )(function)
    return click.option(
        "--law",
        metavar="NAME",
        help="A published law: hoffmann, hoffmann-unrounded, besiroglu, besiroglu-huber, kaplan-t5, kaplan-t2, "
        "kaplan-ns, muennighoff.",
    )(function)


def the_law(law: str | None, fit_file: str | None, default: str | None = None) -> Any:
    """Return the saved.KnownLaw that was asked for; raise UsageFault when not exactly one was."""
    from gpt2cli.scaling.saved import law_by_name, read_fit

    if law is None and fit_file is None and default is not None:
        law = default
    if (law is None) == (fit_file is None):
        raise UsageFault("give either --law NAME or --fit FILE")
    return law_by_name(law) if law is not None else read_fit(str(fit_file))


def write_records(kind: str, records: list[dict[str, Any]], output: str, force: bool) -> None:
    """Write records to `output`; on standard output an end record follows."""
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        for record in records:
            writer.write(kind, record)
        if output == "-":
            writer.end()


def warn_of_reach(console: Console, known: Any, records: list[dict[str, Any]]) -> None:
    """Warn when a fit is asked far beyond its runs."""
    farthest = max((float(record["flops"]) for record in records if record["flops"] is not None), default=0.0)
    if known.largest_flops is not None and farthest > 100 * known.largest_flops:
        console.warn(
            f"{farthest:.3g} FLOP is {farthest / known.largest_flops:.0f} times the largest run of this fit; "
            "the interval knows nothing of what changes on the way"
        )
