"""Where a step of webtext-scrape writes: its records, and what it dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt2cli.cli.console import Console

if TYPE_CHECKING:
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.webtext.scrape import Steps


@contextlib.contextmanager
def outputs(output: str, rejects: str | None, force: bool, console: Console) -> Iterator[tuple[RecordWriter, Steps]]:
    """Yield the writer of `output` and the steps, which write what they drop to `rejects`.

    Standard output is closed with the end record when the block succeeds.
    """
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output
    from gpt2cli.webtext.scrape import Steps

    with contextlib.ExitStack() as stack:
        sink = RecordWriter(stack.enter_context(open_output(output, force=force)))
        dropped = RecordWriter(stack.enter_context(open_output(rejects, force=force))) if rejects else None
        yield sink, Steps(dropped, console)
        if output == "-":
            sink.end()
