"""gpt2 fit-scaling predict FILE...: finished runs beside what a law foretold of them."""

from __future__ import annotations

from typing import Any

from gpt2cli.cli.console import Console
from gpt2cli.cli.scaling_options import the_law, write_records


def beside_runs(
    console: Console, files: tuple[str, ...], law: str | None, fit_file: str | None, output: str, force: bool
) -> None:
    """Write a record and show a line for every finished run of `files`."""
    from gpt2cli.records.streams import display_name
    from gpt2cli.scaling.foretold import check_comparable, foretell, foretold_record, run_error
    from gpt2cli.scaling.observations import read_observations
    from gpt2cli.scaling.saved import known_law, last_fit
    from gpt2cli.scaling.study import rounded

    error, names = None, frozenset[str]()
    if fit_file is not None and law is None:
        fit = last_fit(fit_file)
        known, error = known_law(fit, display_name(fit_file)), run_error(fit)
        names = frozenset(str(row.get("run")) for row in fit.get("observations") or [])
    else:
        known, fit = the_law(law, fit_file), {}
    seen = read_observations(files, known.count, console)
    check_comparable(fit, seen)
    found = foretell(known, seen, error, names)
    write_records("gpt2.plan", [rounded(foretold_record(one, known)) for one in found], output, force)
    _show(known, found)
    used = [one.run for one in found if one.fitted]
    if used:
        console.warn(f"{used[0]} is among the runs that the law was fitted to ({len(used)} such): no test of it")


def _show(known: Any, found: list[Any]) -> None:
    from gpt2cli.cli.scaling_tables import interval_text, loss_text, short, show

    rows = [
        (one.run, short(one.n), short(one.d), loss_text(one.predicted), interval_text(one.law_interval, loss_text),
         interval_text(one.run_interval, loss_text), loss_text(one.measured), f"{100 * one.error:+.2f} %",
         {True: "inside", False: "OUTSIDE", None: ""}[one.inside])
        for one in found
    ]  # fmt: skip
    header = ("run", "N", "D", "predicted", "95 % of the law", "95 % of a run", "measured", "error", "")
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    show(f"Runs beside {known.name}: {known.source} (N: {known.count} parameters)",
         tuple(header[i] for i in kept), [tuple(row[i] for i in kept) for row in rows])  # fmt: skip
