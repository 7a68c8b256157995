"""Numbers as a person writes them, and those that no machine can count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.cli.options import Amount, Count


@pytest.mark.parametrize(("text", "number"), [
    ("300", 300), ("2K", 2000), ("1.5M", 1_500_000), ("64Ki", 65536), ("1e9", 10**9), ("3b", 3 * 10**9),
    ("1.1M", 1_100_000), (str(2**63 - 1), 2**63 - 1),
])
def test_counts(text: str, number: int) -> None:
    assert Count().convert(text, None, None) == Amount().convert(text, None, None) == number


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e-3", "K", "1 2", "9" * 5000, "1." + "1" * 5000, "nan", "1e999"])
def test_what_is_no_count(text: str) -> None:
    for kind in (Count(), Amount()):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_a_count_fits_a_machine_and_an_amount_a_law() -> None:
    with pytest.raises(click.BadParameter, match=r"'9223372036854775808' is more than 9\.223e\+18"):
        Count().convert(str(2**63), None, None)
    assert Amount().convert("1e25", None, None) == 10**25
    with pytest.raises(click.BadParameter, match=r"is more than 1e\+50"):
        Amount().convert("1e51", None, None)


@pytest.mark.parametrize("words", [
    ("sample", "--batch"), ("sample", "--beams"), ("webtext-scrape", "dedup", "--memory"),
    ("webtext-scrape", "extract", "--page-memory"), ("shard", "head", "-n"),
])
def test_a_number_beyond_64_bits_is_a_usage_error(gpt2_here: Callable[..., Any], words: tuple[str, ...]) -> None:
    for number in ("9" * 20, "9" * 5000):
        result = gpt2_here(*words, number)
        assert result.returncode == 2 and result.stderr.count(b"\n") == 1 and b"Invalid value for" in result.stderr
