"""Plots as plain text: lines in braille dots, marks as letters, axes with round numbers. No colour, no escapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gpt2cli.scaling.capabilities import Panel
from gpt2cli.scaling.curves import Curve, smooth
from gpt2cli.scaling.diagnosis import short
from gpt2cli.scaling.foreign_names import short_name

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille bits by row and column of a cell's 4 x 2 dots."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MARGIN = 8
_LEGEND = 100
"""Most entries below a picture."""


class Canvas:
    """A plot of `width` x `height` characters over ranges of x and y; log axes take positive values only.

    `x_powers` writes the labels of x as 5e12 instead of 5T.
    """

    def __init__(
        self,
        width: int,
        height: int,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        x_log: bool = False,
        y_log: bool = False,
        x_powers: bool = False,
    ) -> None:
        self.columns = max(16, width - _MARGIN - 2)
        self.rows = max(6, height - 4)
        self._x_log, self._y_log, self._x_powers = x_log, y_log, x_powers
        self._x = _widen(x_range, x_log)
        self._y = _widen(y_range, y_log)
        self._dots = [[0] * self.columns for _ in range(self.rows)]
        self._marks: dict[tuple[int, int], str] = {}

    def line(self, x: np.ndarray, y: np.ndarray, *, dashed: bool = False) -> None:
        """Join the points (M,), (M,) by dots; what lies outside the ranges is left out."""
        u, v = self._place(x, y)
        for i in range(len(u) - 1):
            steps = int(min(4000, max(abs(u[i + 1] - u[i]), abs(v[i + 1] - v[i])))) + 1
            for t in np.linspace(0.0, 1.0, steps + 1):
                column, row = round(u[i] + t * (u[i + 1] - u[i])), round(v[i] + t * (v[i + 1] - v[i]))
                if not dashed or (column // 3) % 2 == 0:
                    self._dot(column, row)

    def mark(self, x: float, y: float, letter: str) -> None:
        """Put one character at a point."""
        u, v = self._place(np.array([x]), np.array([y]))
        if len(u) and 0 <= u[0] < 2 * self.columns and 0 <= v[0] < 4 * self.rows:
            self._marks[int(v[0] // 4), int(u[0] // 2)] = letter

    def text(self, title: str, x_title: str, legend: Sequence[str] = ()) -> str:
        """Return the plot as lines, each ended by a newline."""
        ticks = {self._row_of(value): label for value, label in _ticks(self._y, self._y_log, 5)}
        lines = [" " * _MARGIN + title]
        for row in range(self.rows):
            cells = "".join(
                self._marks.get((row, column)) or (chr(0x2800 + dots) if dots else " ")
                for column, dots in enumerate(self._dots[row])
            )
            lines.append(f"{ticks.get(row, ''):>{_MARGIN - 1}} {'┤' if row in ticks else '│'}{cells}".rstrip())
        lines.append(" " * _MARGIN + "└" + "─" * self.columns)
        lines.append(self._x_labels())
        lines.append(x_title.rjust(_MARGIN + 1 + self.columns))
        lines += [" " * (_MARGIN + 1) + entry for entry in legend[:_LEGEND]]
        if len(legend) > _LEGEND:
            lines.append(" " * (_MARGIN + 1) + f"and {len(legend) - _LEGEND:,} more")
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = np.isfinite(x) & np.isfinite(y)
        if self._x_log:
            kept &= x > 0
        if self._y_log:
            kept &= y > 0
        u = _share(x[kept], self._x, self._x_log) * (2 * self.columns - 1)
        v = (1 - _share(y[kept], self._y, self._y_log)) * (4 * self.rows - 1)
        return u, v

    def _dot(self, column: int, row: int) -> None:
        if 0 <= column < 2 * self.columns and 0 <= row < 4 * self.rows:
            self._dots[row // 4][column // 2] |= _DOTS[row % 4][column % 2]

    def _row_of(self, value: float) -> int:
        share = float(_share(np.array([value]), self._y, self._y_log)[0])
        return int((1 - share) * (4 * self.rows - 1)) // 4

    def _x_labels(self) -> str:
        line = [" "] * (_MARGIN + 1 + self.columns + 8)
        free = 0
        for value, label in _ticks(self._x, self._x_log, max(2, self.columns // 14)):
            share = float(_share(np.array([value]), self._x, self._x_log)[0])
            if self._x_powers:
                label = f"{value:.2g}".replace("e+", "e")
            start = max(0, _MARGIN + 1 + round(share * (self.columns - 1)) - len(label) // 2)
            if start >= free and start + len(label) <= len(line):
                line[start : start + len(label)] = label
                free = start + len(label) + 2
        return "".join(line)


def curves_text(curves: Sequence[Curve], axis: str, references: Mapping[str, float], width: int, height: int) -> str:
    """Return a text plot of loss curves: dots are training loss, letters validation loss."""
    training = [curve.training(axis) for curve in curves]
    validation = [curve.validation(axis) for curve in curves]
    every = [pair for pair in training + validation if len(pair[0])]
    x_all = np.concatenate([pair[0] for pair in every])
    y_all = np.concatenate([smooth(pair[1]) for pair in every] + [np.array(list(references.values()))])
    log = len(curves) > 1
    positive = x_all[x_all > 0] if log and (x_all > 0).any() else x_all
    canvas = Canvas(
        width,
        height,
        (float(positive.min()), float(x_all.max())),
        (float(y_all.min()), float(y_all.max())),
        x_log=log and bool((x_all > 0).any()),
        x_powers=axis == "flops",
    )
    for value in references.values():
        canvas.line(np.array([positive.min(), x_all.max()]), np.array([value, value]), dashed=True)
    legend = []
    for i, curve in enumerate(curves):
        letter = "o" if len(curves) == 1 else LETTERS[i % len(LETTERS)]
        canvas.line(training[i][0], smooth(training[i][1]))
        x, loss = validation[i]
        for at in range(len(x)) if len(curves) == 1 else range(len(x))[-1:]:
            canvas.mark(float(x[at]), float(loss[at]), letter)
        final = f", validation loss {loss[-1]:.4f}" if len(x) else ""
        size = f", {short(curve.n_params)} parameters" if curve.n_params else ""
        legend.append(f"{letter}  {short_name(curve.run)}{size}{final}")
    legend += [f"- -  {short_name(name)} {value:g}" for name, value in references.items()]
    return canvas.text("loss (nats per token)", axis, legend)


def panel_text(panel: Panel, references: Mapping[str, float], width: int, height: int) -> str:
    """Return a text plot of a metric against parameters: a letter for each series, + the published models."""
    values = [point.value for series in panel.series for point in series.points]
    published = [entry for series in panel.series for entry in series.published]
    x = [point.n_params for series in panel.series for point in series.points] + [n for _, n, _ in published]
    y = [*values, *(value for _, _, value in published), *references.values()]
    canvas = Canvas(width, height, (min(x), max(x)), (min(y), max(y)), x_log=True, y_log=panel.logarithmic)
    for value in references.values():
        canvas.line(np.array([min(x), max(x)]), np.array([value, value]), dashed=True)
    legend = []
    for i, series in enumerate(panel.series):
        line, letter = series.line(), LETTERS[i % len(LETTERS)]
        canvas.line(np.array([point.n_params for point in line]), np.array([point.value for point in line]))
        for _, n_params, value in series.published:
            canvas.mark(n_params, value, "+")
        for point in series.points:
            canvas.mark(point.n_params, point.value, letter)
        own = ", ".join(_measure(point.n_params, point.value, point.stderr) for point in line)
        legend.append(f"{letter}  {short_name(series.label)}: {own}")
        if series.published:
            paper = ", ".join(f"{size} {value:g}" for size, _, value in series.published)
            legend.append(f"+  {short_name(series.label)}, GPT-2 paper: {paper}")
    legend += [f"- -  {short_name(name)} {value:g}" for name, value in references.items()]
    return canvas.text(short_name(panel.title), "parameters N", legend)


def _measure(n_params: float, value: float, stderr: float | None) -> str:
    return f"{short(n_params)} {value:.4g}" + ("" if stderr is None else f" +- {stderr:.2g}")


def _widen(ends: tuple[float, float], log: bool) -> tuple[float, float]:
    low, high = ends
    if low < high:
        return low, high
    return (low / 2, high * 2) if log else (low - 0.5 * abs(low) - 1e-9, high + 0.5 * abs(high) + 1e-9)


def _share(values: np.ndarray, ends: tuple[float, float], log: bool) -> np.ndarray:
    if log:
        return np.log(values / ends[0]) / math.log(ends[1] / ends[0])
    return (values - ends[0]) / (ends[1] - ends[0])


def _ticks(ends: tuple[float, float], log: bool, wanted: int) -> list[tuple[float, str]]:
    """Return about `wanted` round values within `ends`, with labels."""
    low, high = ends
    if log and math.log10(high / low) >= wanted - 1:
        step = max(1, math.ceil(math.log10(high / low) / wanted))
        decades = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        return [(10.0**k, f"1e{k}" if abs(k) > 2 else f"{10.0**k:g}") for k in decades if k % step == 0]
    if log and high / low > 4:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [m * 10.0**k for k in decades for m in (1, 2, 5)]
        return [(value, short(value)) for value in values if low <= value <= high]
    raw = (high - low) / max(1, wanted)
    scale = 10.0 ** math.floor(math.log10(raw))
    step_size = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= raw * 0.999)
    first = math.ceil(low / step_size - 1e-9)
    last = math.floor(high / step_size + 1e-9)
    return [
        (k * step_size, short(k * step_size) if step_size >= 1000 else f"{k * step_size:.6g}")
        for k in range(first, last + 1)
    ]
