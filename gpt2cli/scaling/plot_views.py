"""The views of a fit by name: how each is drawn into a file, and as text."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import BinaryIO

from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.plot_cloud import draw_cloud
from gpt2cli.scaling.plot_contours import draw_contours
from gpt2cli.scaling.plot_fit import draw_fit
from gpt2cli.scaling.plot_isoflop import draw_isoflop
from gpt2cli.scaling.plot_residuals import draw_residuals
from gpt2cli.scaling.plot_rolling import draw_rolling
from gpt2cli.scaling.terminal_fit import (
    cloud_text,
    contours_text,
    fit_text,
    isoflop_text,
    residuals_text,
    rolling_text,
)

Draw = Callable[[Record, BinaryIO, str], None]
Text = Callable[[Record, int, int], str]

FIT_VIEWS: MappingProxyType[str, tuple[Draw, Text]] = MappingProxyType(
    {
        "frontier": (draw_fit, fit_text),
        "isoflop": (draw_isoflop, isoflop_text),
        "contours": (draw_contours, contours_text),
        "residuals": (draw_residuals, residuals_text),
        "cloud": (draw_cloud, cloud_text),
        "rolling": (draw_rolling, rolling_text),
    }
)
"""Value of --view -> figure, text."""
