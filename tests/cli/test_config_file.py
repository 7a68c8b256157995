"""--config FILE: a value is what would stand after its flag, or is refused by its key; never a traceback."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.cli import command as command_line
from gpt2cli.cli.main import COMMANDS

VALUES = ["true", "false", "1", "0", "-1", "1.5", "1e400", "nan", "1" + "0" * 30, "0x" + "f" * 5000, '""', '"x"',
          '"2K"', '"a\\u0000b"', "[]", "[1]", '["x"]', '["x", "y"]', "[true]", "[[1]]", "{a = 1}", "[{}]", "1979-05-27",
          "07:32:00", "1979-05-27T07:32:00Z"]


def options() -> Iterator[tuple[str, click.Command, click.Option]]:
    for name, (_, module, _) in COMMANDS.items():
        command: click.Command = importlib.import_module(f"gpt2cli.cli.{module}").command
        for one in (command, *getattr(command, "verbs", {}).values()):
            for option in one.params:
                if isinstance(option, click.Option) and option.opts[0] != "--config":
                    yield name, one, option


def taken(command: click.Command, option: click.Option, text: str, path: Path) -> Any:
    """What an option is where a file says `text` for it; UsageError passes."""
    key = next(word for word in option.opts if word.startswith("--")).removeprefix("--")
    path.write_text(f"[{command.name}]\n{key} = {text}\n")
    context = click.Context(command, info_name=command.name)
    command_line._read_config(context, option, str(path))
    context.params = {}
    option.handle_parse_result(context, {}, [])
    return context.params.get(option.name or "")


def test_any_value_of_any_option_is_taken_or_refused_in_a_sentence(tmp_path: Path) -> None:
    refused = accepted = 0
    for _, command, option in options():
        for text in VALUES:
            try:
                value = taken(command, option, text, tmp_path / "c.toml")
            except click.UsageError as error:
                assert len(error.format_message()) < 6000
                refused += 1
                continue
            accepted += 1
            kind = text.lstrip("[")[:1]
            assert kind not in "{" and not text.startswith("[[") and "-05-27" not in text and ":32" not in text
            if option.is_bool_flag:
                assert text in ("true", "false") and (value is (text == "true") or not option.expose_value)
            elif not option.is_flag:
                assert text not in ("true", "false") and "u0000" not in text, (command.name, option.name)
                assert not text.startswith("[") or option.multiple or option.nargs > 1
    assert accepted > 1000 and refused > 1000


def test_a_number_is_read_as_the_flag_reads_it(tmp_path: Path) -> None:
    found = {(name, option.name): (command, option) for name, command, option in options() if name == command.name}
    for key, text, value in (
        (("train", "lr"), "6e-4", 6e-4), (("train", "lr"), '"6e-4"', 6e-4), (("train", "tokens"), "1e9", 10**9),
        (("train", "tokens"), '"2K"', 2000), (("train", "seed"), "7", 7), (("quantize", "bits"), "8", "8"),
        (("train", "force"), "true", True), (("train", "deterministic"), "false", False),
        (("quantize", "texts"), '"x"', ("x",)), (("quantize", "texts"), '["x", "y"]', ("x", "y")),
        (("sample", "stop"), '["a b", "c"]', ("a b", "c")),
    ):
        assert taken(*found[key], text, tmp_path / "c.toml") == value, key


@pytest.mark.parametrize(("table", "said"), [
    ("[train]\nforce = 1", b"force is a number; a flag is true or false"),
    ("[train]\nquiet = 1", b"quiet is a number; a flag is true or false"),
    ("[train]\nlr = true", b"lr is true; it takes a string or a number"),
    ("[train]\nlr = [1]", b"lr is an array; it takes a string or a number"),
    ("[train]\nlr = 1979-05-27", b"lr is a date or a time; it takes"),
    ("[train]\nseed = 1e400", b"'inf' is not a valid whole number"),
    ("[train]\noutput = \"a\\u0000b\"", b"output has a character 0 in it"),
    ("[train]\nbatch-tokens = 1\nbatch_tokens = 2", b"[train] has 'batch-tokens' in two spellings"),
    ("[train]\noutput = 2e3", b"output is a number, which is written in many ways; put it in quotes"),
    ("[train]\nsize = nan", b"size is a number, which is written"),
    ("[train]\nlr = 0x" + "f" * 5000, b"lr is a number of too many digits"),
])
def test_what_it_says(gpt2_here: Callable[..., Any], tmp_path: Path, table: str, said: bytes) -> None:
    (tmp_path / "c.toml").write_text(f"{table}\n")
    result = gpt2_here("train", "shards", "--config", tmp_path / "c.toml")
    assert result.returncode == 2 and result.stderr.count(b"\n") == 1 and said in result.stderr, result.stderr


def test_quiet_and_verbose_and_one_of_two_forms(
    gpt2_here: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.txt").write_text("Once upon a time.")
    (tmp_path / "c.toml").write_text("[bpe-tokenize]\nquiet = true\n[shard]\njson = true\ntext = false\n"
                                     "[fit-scaling]\naspect = [8, 9]\n")
    quiet = gpt2_here("bpe-tokenize", "d.txt", "-o", "s.tok.zst", "--config", "c.toml", check=True)
    assert quiet.stderr == b""
    decoded = gpt2_here("shard", "cat", "s.tok.zst", "--config", "c.toml", check=True)
    assert b'"gpt2.document/1"' in decoded.stdout
