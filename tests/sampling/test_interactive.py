"""gpt2 sample --interactive through a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.cli.sample_interactive import _line
from gpt2cli.sizes import ModelShape

UP = b"\x1b[A"


class Terminal:
    """What a person types into and sees."""

    def __init__(self, popen: Callable, home: Path, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        environment = {"XDG_STATE_HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        self.process = popen("sample", "-i", *arguments, stdin=slave, stdout=slave, stderr=slave,
                             env=environment, start_new_session=True, preexec_fn=control)
        os.close(slave)
        self.seen = b""

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def wait(self, words: bytes, seconds: float = 60) -> bytes:
        """Read until `words` are seen; return everything up to them and forget it."""
        deadline = time.monotonic() + seconds
        while words not in self.seen:
            assert time.monotonic() < deadline, (words, self.seen)
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:
                    break
        assert words in self.seen, (words, self.seen)
        found, _, self.seen = self.seen.partition(words)
        return found

    def close(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            os.close(self._master)


def control() -> None:
    """Make the terminal the child's own, so that Ctrl-C reaches it as a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = lively_model(ModelShape(4, 4, 128, 4096, 500), seed=1)
    return save_model(tmp_path_factory.mktemp("endless") / "m", model, small_vocabulary())


@pytest.fixture
def terminal(gpt2_popen: Callable, endless: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(gpt2_popen, tmp_path, endless, "--max-tokens", "6", "--ignore-eot", "--threads", "1",
                        "--temperature", "0")
    terminal.wait(b"> ")
    yield terminal
    terminal.process.kill()


@pytest.mark.slow
def test_a_session(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type(b"Hello you\n")
    terminal.wait(b"Hello you\r\n")
    first = terminal.wait(b"\r\n> ")
    assert first.startswith(b"Hello you") and len(first) > len(b"Hello you")
    terminal.type(b":again\n")
    terminal.wait(b":again\r\n")
    assert terminal.wait(b"\r\n> ") == first, "temperature 0 says the same again"
    terminal.type(b"\n")
    terminal.wait(b"\r\n")
    longer = terminal.wait(b"\r\n> ")
    assert longer and not longer.startswith(b"Hello"), "an empty line goes on, and shows what is new"
    terminal.type(b"two\\\nlines\n")
    terminal.wait(b"... lines\r\n")
    assert terminal.wait(b"\r\n> ").startswith(b"two\r\nlines")
    terminal.type(UP + UP + UP + UP + b"\n")  # lines, two\, :again, Hello you (no empty ones)
    terminal.wait(b"Hello you\r\n")
    assert terminal.wait(b"\r\n> ") == first
    terminal.type(b":help\n")
    assert b"Ctrl-C" in terminal.wait(b"\r\n> ")
    terminal.type(b"\x04")
    assert terminal.close() == 0
    assert "Hello you" in (tmp_path / "gpt2" / "sample_history").read_text()


@pytest.mark.slow
def test_ctrl_c_ends_the_text_and_not_the_session(gpt2_popen: Callable, endless: Path, tmp_path: Path) -> None:
    terminal = Terminal(gpt2_popen, tmp_path, endless, "--max-tokens", "4000", "--ignore-eot", "--threads", "1", "-q")
    terminal.wait(b"> ")
    terminal.type(b"half a line")
    terminal.wait(b"half a line")
    time.sleep(0.5)  # a signal just before readline waits for a key would be seen with the next key
    terminal.type(b"\x03")
    terminal.wait(b"> ")
    terminal.type(b"The\n")
    terminal.wait(b"The\r\nThe")
    time.sleep(0.5)
    terminal.type(b"\x03")
    made = terminal.wait(b"\r\n> ")
    assert len(made) > 3
    assert b"Traceback" not in made
    terminal.type(b":quit\n")
    assert terminal.close() == 0


def test_a_line_that_is_no_text_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python gives the bytes of a terminal in the locale C."""
    for typed, line in (("caf\udce9", None), ("caf\u00e9", "caf\u00e9")):
        monkeypatch.setattr("builtins.input", lambda prompt, typed=typed: typed)
        assert _line("> ") == line


def test_without_a_terminal_it_is_a_usage_error(gpt2_here: Callable, model_directory: Path) -> None:
    result = gpt2_here("sample", model_directory, "-i", input=b"The\n")
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"--interactive needs a terminal" in result.stderr
    for option in ("--json", "--lines"):
        assert gpt2_here("sample", model_directory, "-i", option).returncode == 2


@pytest.mark.slow
def test_what_is_wrong_is_told_before_the_first_prompt(gpt2_popen: Callable, tmp_path: Path) -> None:
    terminal = Terminal(gpt2_popen, tmp_path, tmp_path / "nothing")
    seen = terminal.wait(b"nothing")
    assert b"> " not in seen
    assert terminal.close() == 2
