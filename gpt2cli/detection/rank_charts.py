"""Histograms as SVG for a page without style attributes: bars for the text, ticks for the model's own draws."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _FLOOR = 300, 100, 86


def share_bar(share: float, expected: float, kind: str) -> str:
    """Return a horizontal bar of `share` of the width, 0 to 1, with a tick at `expected`. kind: a class of the fill."""
    return (f'<svg viewBox="0 0 {_WIDTH} 16" preserveAspectRatio="none" aria-hidden="true">'
            f'<line class="axis" x1="0" x2="{_WIDTH}" y1="15.5" y2="15.5"/>'
            f'<rect class="{kind} edge" x="0" y="2" width="{_WIDTH * share:.1f}" height="12"/>'
            f'<line class="tick" x1="{_across(expected):.1f}" x2="{_across(expected):.1f}" y1="0" y2="16"/></svg>')


def column_chart(shares: Sequence[float], expected: Sequence[float] | None, edges: Sequence[str], caption: str) -> str:
    """Return a figure of columns, one a share, between `edges`, of which there is one more; ticks where `expected`."""
    highest = max([*shares, *(expected or ()), 1e-9])
    step = _WIDTH / len(shares)
    parts = [f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_FLOOR}.5" y2="{_FLOOR}.5"/>']
    for place, share in enumerate(shares):
        label = f"{edges[place]} to {edges[place + 1]}: {100 * share:.1f} %"
        tall = (_FLOOR - 10) * share / highest
        tick = ""
        if expected is not None:
            label += f"; own draws {100 * expected[place]:.1f} %"
            level = _FLOOR - (_FLOOR - 10) * expected[place] / highest
            tick = (f'<line class="tick" x1="{place * step + 1:.1f}" x2="{(place + 1) * step - 1:.1f}" '
                    f'y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<g><title>{escape(label)}</title><rect class="fill" x="{place * step + 2:.1f}" '
                     f'y="{_FLOOR - tall:.1f}" width="{step - 4:.1f}" height="{tall:.1f}"/>{tick}</g>')
    for place in range(0, len(edges), 1 if len(edges) < 8 else 2):
        anchor = "start" if place == 0 else "end" if place == len(edges) - 1 else "middle"
        parts.append(f'<text x="{place * step:.1f}" y="98" text-anchor="{anchor}">{escape(edges[place])}</text>')
    parts.append(f'<text x="{_WIDTH}" y="8" text-anchor="end">{100 * highest:.0f} %</text>')
    return (f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(caption)}">{"".join(parts)}'
            f"</svg><figcaption>{escape(caption)}</figcaption></figure>")


def _across(share: float) -> float:
    return 1 + (_WIDTH - 2) * share
