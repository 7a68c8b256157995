"""The tables of gpt2 fit-scaling for people: on stderr, by rich on a terminal, as plain columns elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from gpt2cli.cli.console import one_line, say
from gpt2cli.cli.scaling_approaches import approach_rows

Rows = list[tuple[str, ...]]


def show_fit(record: dict[str, Any]) -> None:
    """Show a gpt2.fit record: parameters, allocation at each budget, diagnosis."""
    level = f"{100 * record['level']:.0f} % interval"
    rows: Rows = [
        (name, _plain(value), interval_text(record["intervals"][name], _plain))
        for name, value in record["parameters"].items()
    ]
    title = f"L = {record['form']}   ({record['n_observations']} runs, N: {record['count']} parameters)"
    show(title, ("", "fit", level), rows)
    show(
        "Best use of a budget (C = 6 N D)",
        ("C in FLOP", "N", level, "D", level, "loss", level),
        [_allocation(entry) for entry in record["allocations"]],
    )
    show("The three approaches to the optimum", *approach_rows(record))
    if record["candidates"]:
        show("Forms by their error on runs held out", *_candidates(record))
    show("Diagnosis", ("", ""), _diagnosis(record))


def show_plans(name: str, source: str, count: str, records: list[dict[str, Any]]) -> None:
    """Show gpt2.plan records of `predict` and `optimal`."""
    rows: Rows = []
    for record in records:
        if record["kind"] == "optimal":
            rows.append(_allocation(record))
        else:
            rows.append(
                (
                    f"{record['flops']:.3g}",
                    short(record["n"]),
                    "",
                    short(record["d"]),
                    "",
                    loss_text(record["loss_nats"]),
                    interval_text(record.get("loss_nats_interval"), loss_text),
                )
            )
    header = ("C in FLOP", "N", "95 % interval", "D", "95 % interval", "loss", "95 % interval")
    kept = [i for i in range(len(header)) if "interval" not in header[i] or any(row[i] for row in rows)]
    show(
        f"{name}: {source} (C = 6 N D, N: {count} parameters)",
        tuple(header[i] for i in kept),
        [tuple(row[i] for i in kept) for row in rows],
    )


def short(value: float | None) -> str:
    """Write a count for people; None means that there is no optimum."""
    from gpt2cli.scaling.diagnosis import short as write

    return "none" if value is None else write(value)


def _allocation(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{entry['flops']:.3g}",
        short(entry["n_opt"]),
        interval_text(entry.get("n_opt_interval"), short),
        short(entry["d_opt"]),
        interval_text(entry.get("d_opt_interval"), short),
        loss_text(entry["loss_nats"]),
        interval_text(entry.get("loss_nats_interval"), loss_text),
    )


def _diagnosis(record: dict[str, Any]) -> Rows:
    found, boot = record["diagnosis"], record["bootstrap"]
    condition = found["condition"]
    rows: Rows = [
        ("N", f"{short(found['n_range'][0])} to {short(found['n_range'][1])}, {found['n_levels']} sizes"),
        (
            "D",
            f"{short(found['d_range'][0])} to {short(found['d_range'][1])}, {found['d_levels']} lengths, "
            f"spanning {found['d_range'][1] / found['d_range'][0]:.3g} times",
        ),
        ("D/N", f"{found['d_per_n_range'][0]:.3g} to {found['d_per_n_range'][1]:.3g}"),
        ("condition number", "singular" if condition is None else f"{condition:.0f} (healthy: below 100)"),
        ("at a bound", ", ".join(found["at_bound"]) or "none"),
        ("residuals", f"{100 * found['rms_log_residual']:.2g} % rms, {100 * found['max_log_residual']:.2g} % worst"),
        ("rolling origin", _rolling_origin(found["rolling_origin"])),
        ("influential runs", _influential(found["influential"])),
        ("resamples", f"{boot['used']} of {boot['drawn']} used, {boot['clusters']} independent runs"),
        ("left out", "; ".join(f"{why} ({number})" for why, number in record["excluded"].items()) or "nothing"),
    ]
    if record["flops_per_nd_measured"] is not None:
        rows.append(("C / (N D)", f"{record['flops_per_nd_measured']:.2f} FLOP measured in these runs; 6 in the table"))
    return rows


def _rolling_origin(found: dict[str, Any]) -> str:
    if found["rms_log_error"] is None:
        return "no runs could be held out"
    reach = max(each["reach"] for each in found["predictions"])
    return (
        f"{100 * found['rms_log_error']:.2g} % rms, {100 * found['worst_log_error']:+.2g} % worst, over "
        f"{len(found['predictions'])} runs of up to {reach:.3g} times the compute of those fitted"
    )


def _influential(found: list[dict[str, Any]]) -> str:
    return ", ".join(f"{each['run']} ({100 * each['log_loss_shift']:+.2g} %)" for each in found)


def _candidates(record: dict[str, Any]) -> tuple[tuple[str, ...], Rows]:
    rows: Rows = []
    for each in record["candidates"]:
        error, residual = each["rms_log_error"], each["rms_log_residual"]
        rows.append(
            (
                each["law"],
                str(each["parameters"]),
                "" if error is None else f"{100 * error:.3g} %",
                "" if residual is None else f"{100 * residual:.3g} %",
                "chosen" if each["law"] == record["law"] else each["not_considered"] or "",
            )
        )
    return ("", "parameters", "held out, rms", "fitted, rms", ""), rows


def _plain(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 100 else f"{value:.4g}"


def loss_text(value: float | None) -> str:
    """Write a loss for people; None means that there is none."""
    return "none" if value is None else f"{value:.4f}"


def interval_text(ends: list[Any] | None, write: Any) -> str:
    """Write an interval for people by `write`; None gives an empty cell."""
    if ends is None:
        return ""
    return " to ".join("none" if end is None else write(end) for end in ends)


def filled(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows without the columns that no row fills."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return tuple(header[i] for i in kept), [tuple(row[i] for i in kept) for row in rows]


def show(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Show a table on stderr unless --quiet; a header of empty strings is left out."""
    if click.get_current_context().meta.get("gpt2.quiet"):
        return
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ:
        _show_rich(title, header, rows)
        return
    say("")
    say(title)
    lines = [row for row in (header, *rows) if any(row)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(header))]
    for row in lines:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_rich(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=any(header))
    for name in header:
        table.add_column(Text(one_line(name)))
    for row in rows:
        table.add_row(*(Text(one_line(cell), style="bold" if i == 0 else "") for i, cell in enumerate(row)))
    console = Console(stderr=True)
    console.print(Text(one_line(title), style="bold"))
    console.print(table)
