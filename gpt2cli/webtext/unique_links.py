"""Links without repetitions, in bounded memory: each URL key's first one, in order, or the sum of its karma.

Links wait in a compressed file, with a small row for each. Sorted by the hash of the key, rows of one key stand
together, earliest first; sorted back by number, the first ones are matched with the file, which is read once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import zstandard

from gpt2cli.records.jsonl import Record, encode_record, parse_line
from gpt2cli.records.streams import open_input, read_lines
from gpt2cli.webtext.external_sort import RowSort
from gpt2cli.webtext.judge_links import ENTRY, KNOWN, UNKNOWN

SORT_MEMORY = 64 << 20
"""Bytes that each of the two sorts takes, one after the other."""
DUPLICATE = "duplicate URL"
_VERDICT = np.dtype([("number", "<u8"), ("karma", "<i8"), ("standing", "u1")])


class UniqueLinks:
    """Takes in links and gives them back once each. Files are kept in `directory`, which the caller owns.

    sum_karma: None, or the least sum over the links of a key; the first one gets the sum as its karma.
    """

    def __init__(self, directory: Path, sum_karma: int | None = None, memory: int = SORT_MEMORY) -> None:
        self._directory = directory
        self._least = sum_karma
        self._memory = memory
        self._path = directory / "links.jsonl.zst"
        self._sort = RowSort(directory, ENTRY, "key", memory)
        self._file = open(self._path, "wb")  # noqa: SIM115  # closed below, before it is read
        self._writer = zstandard.ZstdCompressor(level=1).stream_writer(self._file)
        self.count = 0

    def __enter__(self) -> UniqueLinks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self._file.close()
        self._sort.close()
        self._path.unlink(missing_ok=True)

    def add(self, entries: np.ndarray, records: list[bytes]) -> None:
        """Take in links: ENTRY rows (their numbers are given here) and a gpt2.link/1 line for each."""
        entries["number"] = np.arange(self.count, self.count + len(entries))
        self.count += len(entries)
        self._sort.add(entries)
        self._writer.write(b"".join(records))

    def judged(self) -> Iterator[tuple[bytes, str | None]]:
        """Yield the record of each link in order, and why it is left out, None for those that stay. Use once."""
        self._writer.close()
        self._file.close()
        with RowSort(self._directory, _VERDICT, "number", self._memory) as firsts:
            for rows in self._first_rows():
                firsts.add(rows)
            self._sort.close()
            verdicts = (row for block in firsts.blocks() for row in block.tolist())
            first = next(verdicts, None)
            with open_input(self._path) as stream:
                for number, line in enumerate(read_lines(stream, str(self._path))):
                    if first is None or first[0] != number:
                        yield line + b"\n", DUPLICATE
                        continue
                    yield self._final(line, first[1], first[2])
                    first = next(verdicts, None)

    def _final(self, line: bytes, karma: int, standing: int) -> tuple[bytes, str | None]:
        if self._least is None:
            return line + b"\n", None
        if standing == UNKNOWN:
            return line + b"\n", "karma unknown"
        if standing == KNOWN and karma < self._least:
            return line + b"\n", f"karma below {self._least}, summed"
        record = fields_of(line)
        if record["karma"] is not None or karma:
            record["karma"] = karma
        return encode_record("gpt2.link", record), None

    def _first_rows(self) -> Iterator[np.ndarray]:
        """Yield the first row of every key with the key's summed karma and highest standing."""
        held = np.empty(0, ENTRY)
        for block in self._sort.blocks():
            rows = np.concatenate([held, block])
            starts = np.flatnonzero(np.concatenate([[True], rows["key"][1:] != rows["key"][:-1]]))
            firsts = rows[starts]
            firsts["karma"] = np.add.reduceat(rows["karma"], starts)
            firsts["standing"] = np.maximum.reduceat(rows["standing"], starts)
            held = firsts[-1:]  # its key may go on in the next block
            yield firsts[:-1][["number", "karma", "standing"]].astype(_VERDICT)
        yield held[["number", "karma", "standing"]].astype(_VERDICT)


def fields_of(line: bytes) -> Record:
    """Return the fields of a record's line without its schema."""
    return {name: value for name, value in parse_line(line, "a link").items() if name != "schema"}
