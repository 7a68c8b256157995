"""From records to observations: what each run reached, at which N and D, and which records do not count and why.

A run counts by its last evaluation on split "val" after its schedule ended (lr_phase "done"): the loss of a run
whose learning rate has not decayed lies above the surface. Foreign tables come in through a column mapping.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import ReadTally, Record, parse_line, read_records
from gpt2cli.records.streams import display_name, open_input, read_lines
from gpt2cli.reporter import Reporter

COUNTS = {"total": "n_params", "non-embedding": "n_params_non_embedding"}
"""What N counts -> field of gpt2.run/1."""
MAP_KEYS = ("n", "d", "loss", "run", "flops", "steps", "unique")
"""Left sides of a mapping; the first three are required."""
LEAST, MOST = 1e-100, 1e100
"""No run has so few or so many parameters, tokens or FLOP, in any unit, nor such a loss; the product of three may be
computed."""


@dataclass(frozen=True)
class Observations:
    """M finished runs: parameters, tokens, loss (nats per token), exact FLOP, each (M,); nan: not recorded.

    `clusters` (M,) labels runs that share a trunk. `excluded` counts what was left out, by reason. `steps` of the
    optimiser and `unique` tokens (M,) are known for some runs only; empty: for none.
    """

    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray
    flops: np.ndarray
    runs: tuple[str, ...]
    clusters: np.ndarray
    count: str
    excluded: dict[str, int] = field(default_factory=dict)
    tokenizers: tuple[str, ...] = ()
    validation_sets: tuple[str, ...] = ()
    steps: np.ndarray = field(default_factory=lambda: np.empty(0))
    unique: np.ndarray = field(default_factory=lambda: np.empty(0))

    def keep(self, chosen: np.ndarray, reason: str) -> Observations:
        """Return the observations that `chosen` (M,) marks, the others counted as excluded for `reason`."""
        left = int((~chosen).sum())
        if not left:
            return self
        arrays = {
            name: getattr(self, name)[chosen]
            for name in ("n", "d", "loss", "flops", "clusters", "steps", "unique")
            if len(getattr(self, name))
        }
        runs = tuple(run for run, kept in zip(self.runs, chosen, strict=True) if kept)
        excluded = {**self.excluded, reason: self.excluded.get(reason, 0) + left}
        return replace(self, runs=runs, excluded=dict(sorted(excluded.items())), **arrays)


def read_observations(
    files: Sequence[str],
    count: str,
    reporter: Reporter,
    *,
    allow_mixed: bool = False,
    allow_undecayed: bool = False,
    watch: Callable[[Record], None] | None = None,
) -> Observations:
    """Read gpt2.run/1 and gpt2.eval/1 records from metrics files (`-`: stdin) of many runs.

    `count` is a key of COUNTS. Raises BadInput for malformed records, for no usable run, and for runs whose
    tokenizers or validation sets differ (their losses are not comparable) unless `allow_mixed`. With
    `allow_undecayed` every evaluation after the warm-up is an observation of its own. `watch` is shown every run, step
    and evaluation record on the way, since stdin is read only once.
    """
    runs: dict[str, Record] = {}
    evaluations: dict[str, Record] = {}
    excluded: dict[str, int] = {}
    for path in files:
        tally = ReadTally()
        for record in read_records(path, tally, kinds=("gpt2.run", "gpt2.eval", "gpt2.step")):
            if watch is not None:
                watch(record)
            if record["schema"].startswith("gpt2.step/"):
                continue
            if record["schema"].startswith("gpt2.run/"):
                runs[str(record["run"])] = record
            else:
                _consider(record, evaluations, excluded, allow_undecayed)
        for text in tally.warnings:
            reporter.warn(text)
    _count_unfinished(runs, evaluations, excluded)
    for name in [name for name, record in evaluations.items() if str(record["run"]) not in runs]:
        del evaluations[name]
        _exclude(excluded, "evaluation without its gpt2.run record")
    if not evaluations:
        raise BadInput(_nothing(files, excluded))
    return _assemble(runs, evaluations, count, excluded, allow_mixed)


def read_mapped(files: Sequence[str], mapping: Mapping[str, str], count: str, reporter: Reporter) -> Observations:
    """Read foreign CSV (with a header line) or JSONL through `mapping`, such as {"n": "params", "d": "tokens", ...}.

    Rows with an empty, zero or negative value are excluded and counted. Raises UsageFault for a column that does not
    exist, BadInput for text that is no number.
    """
    rows: list[tuple[float, ...]] = []
    names: list[str] = []
    excluded: dict[str, int] = {}
    for path in files:
        for where, row in _foreign_rows(path):
            values = _mapped_values(row, mapping, where)
            if values is None:
                _exclude(excluded, "row with an empty or non-positive value")
                continue
            rows.append(values)
            names.append(str(row[mapping["run"]]) if "run" in mapping else where)
    if not rows:
        raise BadInput(_nothing(files, excluded))
    n, d, loss, flops, steps, unique = np.array(rows).T
    clusters = _labels(names)
    return Observations(n, d, loss, flops, tuple(names), clusters, count, excluded, steps=steps, unique=unique)


def parse_mapping(text: str) -> dict[str, str]:
    """Parse "n=params,d=tokens,loss=val_loss" with any of MAP_KEYS; raise UsageFault for anything else."""
    mapping: dict[str, str] = {}
    others = ", ".join(f"{key}=" for key in MAP_KEYS[3:])
    for part in text.split(","):
        key, equals, column = part.partition("=")
        if not equals or not column.strip() or key.strip() not in MAP_KEYS or key.strip() in mapping:
            raise UsageFault(f"--map {text!r}: write n=COLUMN,d=COLUMN,loss=COLUMN (also {others})")
        mapping[key.strip()] = column.strip()
    missing = [key for key in MAP_KEYS[:3] if key not in mapping]
    if missing:
        raise UsageFault(f"--map {text!r} names no column for {' and '.join(missing)}")
    return mapping


def _consider(
    record: Record, evaluations: dict[str, Record], excluded: dict[str, int], allow_undecayed: bool
) -> None:
    name = str(record["run"])
    if allow_undecayed and record["split"] == "val" and record.get("lr_phase") in ("stable", "decay", "done"):
        name = f"{name} at step {record['step']}"
    elif allow_undecayed and record["split"] == "val":
        _exclude(excluded, "evaluation during the warm-up")
        return
    if record["split"] != "val":
        _exclude(excluded, f"evaluation on split {str(record['split'])[:20]!r}")
    elif record.get("lr_phase") != "done" and not allow_undecayed:
        _exclude(excluded, "evaluation before the learning rate had decayed")
    elif not _positive(record["nll_nats_per_token"]) or not _positive(record["tokens"]):
        raise BadInput(
            f"run {name!r}: an evaluation at step {record['step']} whose loss or tokens is no positive number, "
            f"or out of range"
        )
    else:
        if name in evaluations:
            _exclude(excluded, "evaluation superseded by a later one of its run")
        if name not in evaluations or record["step"] >= evaluations[name]["step"]:
            evaluations[name] = record


def _count_unfinished(runs: dict[str, Record], evaluations: dict[str, Record], excluded: dict[str, int]) -> None:
    evaluated = {str(record["run"]) for record in evaluations.values()}
    for _ in [name for name in runs if name not in evaluated]:
        _exclude(excluded, "run without a final evaluation (unfinished?)")


def _assemble(
    runs: dict[str, Record], evaluations: dict[str, Record], count: str, excluded: dict[str, int], allow_mixed: bool
) -> Observations:
    names = sorted(evaluations)
    run_of = {name: str(evaluations[name]["run"]) for name in names}
    tokenizers = sorted({str(runs[run_of[name]]["tokenizer_sha256"]) for name in names})
    validation_sets = sorted({str(evaluations[name].get("val_sha256", "")) for name in names})
    for what, found in (("tokenizers", tokenizers), ("validation sets", validation_sets)):
        if len(found) > 1 and not allow_mixed:
            raise BadInput(
                f"the runs have {len(found)} different {what}, so their losses cannot be compared; "
                "name the runs of one study, or give --allow-mixed"
            )
    for name in names:
        if not _positive(runs[run_of[name]][COUNTS[count]]):
            raise BadInput(f"run {name!r}: {COUNTS[count]} is no positive number, or out of range")
    return Observations(
        n=np.array([float(runs[run_of[name]][COUNTS[count]]) for name in names]),
        d=np.array([float(evaluations[name]["tokens"]) for name in names]),
        loss=np.array([float(evaluations[name]["nll_nats_per_token"]) for name in names]),
        flops=np.array([_or_nan(evaluations[name]["flops"]) for name in names]),
        runs=tuple(names),
        clusters=_labels([_trunk(runs, run_of[name]) for name in names]),
        count=count,
        excluded=dict(sorted(excluded.items())),
        tokenizers=tuple(tokenizers),
        validation_sets=tuple(validation_sets),
        steps=np.array([_or_nan(evaluations[name]["step"]) for name in names]),
        unique=np.array([_or_nan(runs[run_of[name]].get("train_tokens")) for name in names]),
    )


def _trunk(runs: dict[str, Record], name: str) -> str:
    """Follow parent_run to the root; a parent that was not read stands for itself."""
    seen = {name}
    while name in runs and runs[name].get("parent_run"):
        name = str(runs[name]["parent_run"])
        if name in seen:
            raise BadInput(f"run {name!r} is its own ancestor by parent_run")
        seen.add(name)
    return name


def _foreign_rows(path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    name = display_name(path)
    with open_input(path) as stream:
        lines = read_lines(stream, name)
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            raise BadInput(f"{name} is empty")
        if first.lstrip().startswith(b"{"):
            yield from _json_rows(first, lines, name)
        else:
            yield from _csv_rows(first, lines, name)


def _json_rows(first: bytes, lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield f"{name} line 1", parse_line(first, f"{name} line 1")
    for number, line in enumerate(lines, 2):
        if line.strip():
            yield f"{name} line {number}", parse_line(line, f"{name} line {number}")


def _csv_rows(first: bytes, lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = b"\n".join([first, *lines]).decode("utf-8-sig")
        delimiter = max(",;\t", key=first.decode("utf-8-sig").count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        columns = [column for column in reader.fieldnames or () if column]
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice is not None:
            raise BadInput(f"{name} has two columns {twice[:40]!r}; rename or remove one")
        for row in reader:
            if None in row:
                raise BadInput(f"{name} line {reader.line_num} has more fields than the header")
            yield f"{name} line {reader.line_num}", row
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 at byte {error.start}") from None
    except csv.Error as error:
        raise BadInput(f"{name} is no CSV: {error}") from None


def _mapped_values(
    row: Mapping[str, Any], mapping: Mapping[str, str], where: str
) -> tuple[float, ...] | None:
    found = {}
    for key, column in mapping.items():
        if column not in row:
            there = ", ".join(str(known)[:60] for known in list(row)[:12])
            raise UsageFault(f"{where} has no column {column!r}; it has {there}")
        if key != "run":
            found[key] = _number(row[column], column, where)
    if any(not found[key] or found[key] <= 0 for key in MAP_KEYS[:3]):
        return None
    return (found["n"], found["d"], found["loss"], *(found.get(key) or math.nan for key in MAP_KEYS[4:]))


def _number(value: object, column: str, where: str) -> float:
    if value is None or value == "":
        return 0.0
    try:
        number = float(str(value).replace("_", "x"))
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadInput(f"{where}: {column} is {str(value)[:40]!r}, not a number")
    if number > MOST or 0 < number < LEAST:
        raise BadInput(f"{where}: {column} is {number:g}, which is no count and no loss of any run")
    return number


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and LEAST <= value <= MOST


def _or_nan(value: Any) -> float:
    return float(value) if _positive(value) else math.nan


def _labels(names: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(names), return_inverse=True)[1]


def _exclude(excluded: dict[str, int], reason: str) -> None:
    excluded[reason] = excluded.get(reason, 0) + 1


def _nothing(files: Sequence[str], excluded: dict[str, int]) -> str:
    why = "; ".join(f"{reason} ({number})" for reason, number in sorted(excluded.items()))
    where = ", ".join(display_name(path) for path in files[:3])
    return f"no finished run in {where}" + (
        f" (left out: {why})" if why else "; give metrics.jsonl files of runs, or --map for foreign tables"
    )
