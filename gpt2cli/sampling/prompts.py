"""Where prompts come from: an argument, standard input or a file as one, lines, or a file of records."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.records.streams import MAX_LINE, display_name, open_input, open_raw_input, read_lines
from gpt2cli.reporter import Reporter


@dataclass(frozen=True)
class PromptSource:
    """At most one of the four is given; none means standard input as one prompt, or no prompt where it is empty.

    text_file is one prompt, lines are one each, file holds records.
    """

    text: str | None = None
    lines: bool = False
    file: str | None = None
    text_file: str | None = None


def read_prompts(source: PromptSource, reporter: Reporter) -> list[bytes]:
    """Return the prompts as UTF-8, in order. An empty one asks for text from nothing.

    Raises BadInput for text that is not UTF-8 and for records without a string `prompt`.
    """
    if source.text is not None:
        return [_checked(os.fsencode(source.text), "--prompt")]
    if source.text_file is not None:
        with open_input(source.text_file) as stream:
            return [_one_prompt(stream, display_name(source.text_file))]
    if source.file is not None:
        return list(_record_prompts(source.file, reporter))
    if source.lines:
        with open_raw_input("-") as stream:
            return [_checked(line, f"standard input line {number}")
                    for number, line in enumerate(read_lines(stream, "standard input"), 1)]
    return [_whole_input()]


def _whole_input() -> bytes:
    """Return standard input minus one final newline; nothing where it is a terminal, closed or empty."""
    if not sys.stdin.readable() or os.isatty(sys.stdin.fileno()):
        return b""
    return _one_prompt(sys.stdin.buffer, "standard input")


def _one_prompt(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(MAX_LINE + 1)
    if len(data) > MAX_LINE:
        raise BadInput(f"{name} is longer than {MAX_LINE} bytes, too long for one prompt; --lines takes many")
    return _checked(data.removesuffix(b"\n"), name)


def _record_prompts(path: str, reporter: Reporter) -> Iterator[bytes]:
    tally = ReadTally()
    for record in read_records(path, tally, kinds=("gpt2.sample",), foreign=True):
        prompt = record.get("prompt")
        if not isinstance(prompt, str):
            raise BadInput(f"{display_name(path)} record {tally.records} has no text in `prompt`")
        try:
            yield prompt.encode("utf-8")
        except UnicodeEncodeError:
            where = f"{display_name(path)} record {tally.records}"
            raise BadInput(f"{where}: its prompt holds half a surrogate pair") from None
    for warning in tally.warnings:
        reporter.warn(warning)
    if tally.skipped:
        reporter.note("skipped " + ", ".join(f"{count} ({reason})" for reason, count in tally.skipped.items()))


def _checked(data: bytes, where: str) -> bytes:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 at byte {error.start}") from None
    return data
