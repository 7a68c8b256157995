"""The rows of gpt2 fit-scaling that put Hoffmann's three approaches side by side."""

from __future__ import annotations

from typing import Any

NAMES = {"envelope": "1 envelope of curves", "isoflop": "2 IsoFLOP parabolas", "surface": "3 fitted surface"}


def approach_rows(record: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and a row for each approach of a gpt2.fit record, and one for their agreement."""
    found, budgets = record["approaches"], [entry["flops"] for entry in record["allocations"]]
    interval = f"{100 * record['level']:.0f} % interval"
    header = ("", "N ~ C^a", interval, *(f"N at {budget:.3g}" for budget in budgets), "from")
    rows = [
        (name, *_numbers(found[key], len(budgets)), found[key]["why"] or _made_of(key, found[key]))
        for key, name in NAMES.items()
    ]
    rows.append(("together", *[""] * (2 + len(budgets)), found["agreement"]["sentence"]))
    return header, rows


def _numbers(entry: dict[str, Any], budgets: int) -> list[str]:
    from gpt2cli.scaling.diagnosis import short

    if entry["n_exponent"] is None:
        return ["none", *[""] * (1 + budgets)]
    ends = entry.get("n_exponent_interval")
    return [
        f"{entry['n_exponent']:.3f}",
        f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "",
        *(short(best["n_opt"]) for best in entry["allocations"]),
    ]


def _made_of(key: str, entry: dict[str, Any]) -> str:
    if key == "envelope":
        free = sum(each["free"] for each in entry["handovers"])
        forced = len(entry["handovers"]) - free
        said = f"{free} handovers of {entry['n_curves']} {entry['curves']} curves"
        return said + (f"; {forced} forced by the end of a curve left out" if forced else "")
    return _minima(entry) if key == "isoflop" else "every final loss"


def _minima(entry: dict[str, Any]) -> str:
    counts = {name: sum(each["minimum"] == name for each in entry["profiles"]) for name in ("inside", "edge", "none")}
    said = f"{counts['inside']} minima"
    if counts["edge"]:
        said += f"; {counts['edge']} at the edge left out"
    if counts["none"]:
        said += f"; {counts['none']} budgets without one"
    if entry["n_exponent_of_law"] is not None:
        said += f"; {entry['n_exponent_of_law']:.3f} if the fitted surface held exactly"
    return said
