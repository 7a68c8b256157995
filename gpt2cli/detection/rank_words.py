"""What the counts say, in sentences that are the same in the terminal and on the page."""

from __future__ import annotations

import math

from gpt2cli.detection.rank_tally import RankTally

CLASS_NAMES = ("top 10", "top 100", "top 1,000", "beyond")
"""The classes of ranks, the most expected first."""
ALIKE = 2.0
"""Standard errors within which a text is not told apart from the model's own draws."""
CAUTION = ("These are the ranks under this one model. People write predictable sentences too; text of another model, "
           "another temperature or a longer prompt ranks otherwise; and a light edit changes it. On a single text this "
           "is weak evidence of who wrote it, and no proof.")


def comparison(tally: RankTally) -> str:
    """Return how predictable the text was beside what the model would have drawn in the same places."""
    n = tally.n_tokens
    cost = f"Its tokens cost {tally.nll / n:.2f} nats on average"
    if tally.surprise is None:
        return f"{cost}; the model is certain of every token, so there is nothing to compare."
    error = math.sqrt(tally.variance) / n
    drawn = f"{cost}; the model's own draws in the same places would cost {tally.entropy / n:.2f} (standard error " \
            f"{error:.2f})"
    if abs(tally.surprise) < ALIKE:
        return f"{drawn}. That is not told apart from text that the model drew itself at temperature 1."
    more = "less" if tally.surprise > 0 else "more"
    return (f"{drawn}: by {abs(tally.surprise):.1f} standard errors, it is {more} predictable to the model than text "
            "that it draws itself at temperature 1.")
