#!/usr/bin/env python3
"""The last page of `make detect`: how well each detector tells the model's text from human text, as measured.

    python demo/detect_summary.py demo/work/detect/*.report.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gpt2cli.cli.detect_table import lines_of, setting_name
from gpt2cli.records.jsonl import ReadTally, read_records

TOGETHER = "tfidf-all"
PUBLISHED = """\
OpenAI's TF-IDF detector on GPT-2's own samples, on texts many times as long (openai/gpt-2-output-dataset): accuracy
88.29 % (117M) and 74.31 % (1542M) at temperature 1, 96.79 % and 92.69 % with top-k 40."""


def main() -> None:
    """Print the summary to stdout."""
    reports = {Path(name).name.removesuffix(".report.jsonl"): read(name) for name in sys.argv[1:]}
    print("One detector for each way of sampling, on texts that it was not made with (95 % intervals):\n")
    table = [("method", "sampling", "words", "human", "generated", "accuracy %", "AUC")]
    table += [cells(records[-1]["method"], record) for name, records in reports.items() if name != TOGETHER
              for record in records if record["group"] == "setting"]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\n{PUBLISHED}\n\nOne TF-IDF detector for all of them together:\n")
    print("\n".join(lines_of(reports[TOGETHER])))


def read(name: str) -> list[dict[str, Any]]:
    """Return the records of a report."""
    return list(read_records(name, ReadTally(), kinds=("gpt2.detection-report",)))


def cells(method: str, record: dict[str, Any]) -> tuple[str, ...]:
    """Return the table's row of one setting."""
    low, high = (100 * end for end in record["accuracy_interval"])
    area = "{:.3f} ({:.3f} to {:.3f})".format(record["auc"], *record["auc_interval"])
    return (method, setting_name(record), str(record["words"]), str(record["n_human"]), str(record["n_generated"]),
            f"{100 * record['accuracy']:.1f} ({low:.1f} to {high:.1f})", area)


if __name__ == "__main__":
    main()
