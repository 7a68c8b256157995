"""gpt2 sample --interactive: prompts by the terminal's line editor, with a history that outlives the session.

Ctrl-C ends a generation, or clears a line; Ctrl-D leaves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from gpt2cli.cli.console import Console, harmless

if TYPE_CHECKING:
    from gpt2cli.sampling.producer import Producer
    from gpt2cli.sampling.sample import SampleConfig

PROMPT = "> "
CONTINUED = "... "
HISTORY_LINES = 1000
HELP = """\
A line is a prompt; one that ends in a backslash goes on in the next. An empty line goes on with the last text.
:again   another continuation of the last prompt
:help    this
:quit    leave, as Ctrl-D does
Ctrl-C ends a text that is being made."""


class _Ended(Exception):
    """The person at the terminal has read enough."""


def converse(config: SampleConfig, console: Console) -> None:
    """Open the model, then ask for prompts and show their continuations until end of input.

    The n-th text of a session draws from the stream of prompt n. Raises what sample() raises before the first prompt.
    """
    from gpt2cli.sampling.open_model import open_model
    from gpt2cli.sampling.producer import Producer, tell_speculation

    config.way.check(config.decoding, 1)
    opened = open_model(replace(config.model, rows=config.way.rows(1)), console)
    producer = Producer(opened, config.model, config.decoding, config.way, console)
    console.note(":help tells what can be typed; Ctrl-D leaves")
    session = _Session(config, console, producer)
    with _history():
        while (line := _ask()) not in (None, ":quit"):
            session.answer(line or "")
    if producer.tally is not None:
        tell_speculation(producer.tally, console)


class _Session:
    def __init__(self, config: SampleConfig, console: Console, producer: Producer) -> None:
        self._config, self._console, self._producer = config, console, producer
        self._encoder, self._n_ctx = producer.encoder, producer.n_ctx
        self._prompt: str | None = None
        self._text = ""
        self._number = 0

    def answer(self, line: str) -> None:
        """Do what one line asks for."""
        if line == ":help":
            sys.stdout.write(HELP + "\n")
        elif line == ":again":
            if self._prompt is None:
                sys.stdout.write("there is no prompt yet\n")
            else:
                self._show(self._prompt, self._prompt)
        elif line:
            self._prompt = line
            self._show(line, line if self._config.echo else "")
        elif self._text:
            self._show(self._text, "")
        else:
            self._show("", "")

    def _show(self, prompt: str, echo: str) -> None:
        """Continue `prompt`, writing `echo` and then the text as it comes."""
        from gpt2cli.sampling.context import read_prompt
        from gpt2cli.sampling.sample import tell_dropped

        given = read_prompt(self._number, prompt.encode(), self._encoder, self._n_ctx, self._config.decoding.max_tokens)
        tell_dropped(given, self._n_ctx, self._console)
        self._number += 1
        said = [prompt]

        def sink(text: bytes) -> None:
            said.append(text.decode("utf-8", "replace"))
            sys.stdout.write(harmless(said[-1]))
            sys.stdout.flush()

        sys.stdout.write(harmless(echo))
        sys.stdout.flush()
        with contextlib.suppress(_Ended), _ending_by_ctrl_c() as asked:
            for _ in self._producer.samples([given], 1, sink, asked):
                pass
        sys.stdout.write("\n")
        self._text = "".join(said)


class _Asked:
    """Raises _Ended at the next token once Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, count: int) -> None:
        if self.pressed:
            raise _Ended

    def press(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True


@contextlib.contextmanager
def _ending_by_ctrl_c() -> Iterator[_Asked]:
    asked = _Asked()
    before = signal.signal(signal.SIGINT, asked.press)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _ask() -> str | None:
    """Return the next prompt; None at end of input."""
    lines: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            try:
                line = _line(CONTINUED if lines else PROMPT)
            except EOFError:
                sys.stdout.write("\n")
                return None
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                lines = []
                continue
            if line is None:
                sys.stdout.write("that line is not UTF-8\n")
                lines = []
                continue
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                return "\n".join(lines)
    finally:
        signal.signal(signal.SIGINT, before)


def _line(prompt: str) -> str | None:
    """Return one line; None for one that is not UTF-8."""
    try:
        line = input(prompt)
        line.encode()
    except UnicodeError:
        return None
    return line


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Keep the lines typed, in $XDG_STATE_HOME/gpt2/sample_history; where that can't be, in this session alone."""
    try:
        import readline
    except ImportError:  # a Python built without it still asks, without editing
        yield
        return
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(state) / "gpt2" / "sample_history"
    readline.set_history_length(HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
