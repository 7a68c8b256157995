"""The published numbers, against literal values typed from the paper's Table 3 and section 3."""

from __future__ import annotations

import pytest

from gpt2cli.evaluation.published import PUBLISHED, SIZES

TABLE_3 = """
        lambada-ppl lambada-acc cbt-cn cbt-ne wikitext2 ptb enwik8 text8 wikitext103 1bw
117M    35.13 45.99 87.65 83.4 29.41 65.85 1.16 1.17 37.50 75.20
345M    15.60 55.48 92.35 87.1 22.76 47.33 1.01 1.06 26.37 55.72
762M    10.87 60.12 93.45 88.0 19.93 40.31 0.97 1.02 22.05 44.575
1542M   8.63 63.24 93.30 89.05 18.34 35.76 0.93 0.98 17.48 42.16
"""
OF_THE_LARGEST = {
    "lambada-acc-plain": 52.66, "winograd": 70.70, "coqa": 55, "cnn-dm-rouge1": 29.34, "cnn-dm-rouge2": 8.27,
    "cnn-dm-rougeL": 26.58, "wmt14-en-fr": 5, "wmt14-fr-en": 11.5, "natural-questions": 4.1,
}
HEADER, *ROWS = (line.split() for line in TABLE_3.strip().splitlines())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_of_table_3(row: list[str]) -> None:
    size, *values = row
    assert [PUBLISHED[name].values[size] for name in HEADER] == [float(value) for value in values]


def test_what_only_the_largest_model_has() -> None:
    for name, value in OF_THE_LARGEST.items():
        assert PUBLISHED[name].as_fields() == {"1542M": value}


def test_nothing_else_is_claimed() -> None:
    assert set(PUBLISHED) == {*HEADER, *OF_THE_LARGEST}
    assert tuple(row[0] for row in ROWS) == SIZES
    assert all(tuple(PUBLISHED[name].as_fields()) == SIZES for name in HEADER)
