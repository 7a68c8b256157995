"""Every command in the manual and in the README works: it is run, or, when it would take long, parsed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import manpages
import pytest
from warm_gpt2 import warm_bash  # noqa: F401  (a fixture)

ROOT = manpages.ROOT
PAGES = manpages.pages()
README = ROOT / "README.md"
LIMIT_S = 60
SIGPIPE_STATUS = 141


def identity(page: Path) -> str:
    return page.name


def examples_of(source: Path) -> list[manpages.Example]:
    return manpages.markdown_examples(source) if source.suffix == ".md" else manpages.page_examples(source)


@pytest.mark.parametrize("source", [*PAGES, README], ids=identity)
def test_every_source_has_examples_that_the_parser_accepts(source: Path) -> None:
    examples = examples_of(source)
    assert examples, f"{source.name} shows no command"
    for example in examples:
        commands = manpages.simple_commands(example.text)
        assert commands, example.text
        for words in commands:
            if "gpt2" in words:
                check_arguments(example.text, words[words.index("gpt2") + 1:])
            elif words[0] == "make":
                check_targets(example.text, words[1:])


def check_arguments(text: str, arguments: list[str]) -> None:
    """Globs and variables stay as they are: they are words of the right kind."""
    try:
        manpages.parse_by_click(arguments)
    except click.UsageError as error:
        pytest.fail(f"{text}\n  {error.format_message()}")


def check_targets(text: str, words: list[str]) -> None:
    makefiles = [ROOT / "Makefile", *sorted((ROOT / "demo").glob("*.mk"))]
    known = set(re.findall(r"^([\w.-]+):", "\n".join(path.read_text() for path in makefiles), re.MULTILINE))
    targets = [word for word in words if not word.startswith("-") and "=" not in word]
    assert set(targets) <= known, f"{text}: no such make target"


def test_markers_are_an_exception() -> None:
    """Most commands shown are commands run; the counts are printed, for a person to judge."""
    marked: dict[str, int] = dict.fromkeys(manpages.MARKERS, 0)
    executed = 0
    for source in [*PAGES, README]:
        for example in examples_of(source):
            if example.marker:
                marked[example.marker] += 1
            else:
                executed += 1
    print(f"examples: {executed} executed; only parsed: {marked}")
    assert executed > 2 * sum(marked.values())


def test_every_command_is_in_the_readme_and_in_its_own_examples() -> None:
    from gpt2cli.cli.main import COMMANDS

    text = README.read_text()
    for command in COMMANDS:
        assert f"`{command}`" in text or f"gpt2 {command}" in text, f"README does not mention {command}"
        shown = [words for example in manpages.page_examples(manpages.MAN / "man1" / f"gpt2-{command}.1")
                 for words in manpages.simple_commands(example.text)]
        assert any(words[:2] == ["gpt2", command] for words in shown), f"no example of {command} on its page"


@pytest.mark.slow
@pytest.mark.parametrize("source", [*PAGES, README], ids=identity)
def test_examples_run(source: Path, scratch: Path, warm_bash: Callable) -> None:  # noqa: F811
    """In order, in one directory per page, so that a later line may use what an earlier one made."""
    for example in examples_of(source):
        if example.marker:
            continue
        result = warm_bash(example.text, scratch, timeout=LIMIT_S)
        allowed = {0, SIGPIPE_STATUS} if "| head" in example.text else {0}
        assert result.returncode in allowed, (
            f"$ {example.text}\nstatus {result.returncode}\n{result.stderr.decode(errors='replace')[-2000:]}")


def test_tools_that_examples_need_are_here() -> None:
    """A missing jq would fail an example in a way that looks like our fault."""
    for tool in ("zstd", "jq", "od"):
        assert shutil.which(tool), f"{tool} is not installed; the examples of the manual use it"


def test_simple_commands_splits_like_a_shell() -> None:
    split = manpages.simple_commands
    assert split("cat a.txt | gpt2 bpe-tokenize -o x 2>err.log && echo 'a | b'") == [
        ["cat", "a.txt"], ["gpt2", "bpe-tokenize", "-o", "x"], ["echo", "a | b"]]
    assert split("jq 'select(.k > 1)' f 2>&1 | gpt2 pack") == [["jq", "select(.k > 1)", "f"], ["gpt2", "pack"]]
    assert split("A=1 gpt2 sample < prompt.txt > out.txt # gpu") == [["gpt2", "sample"]]
    assert split("make demo   # long: all of it, on a CPU") == [["make", "demo"]]
    assert split("gpt2 train s \\\n  --size small # long") == [["gpt2", "train", "s", "--size", "small"]]


def test_parser_refuses_what_the_command_refuses() -> None:
    with pytest.raises(click.UsageError):
        manpages.parse_by_click(["help", "--no-such-option"])
    with pytest.raises(click.UsageError):
        manpages.parse_by_click(["trian"])
    assert manpages.parse_by_click(["help", "--path", "train"]) == "help"


def test_the_warm_command_ends_as_a_command_does(scratch: Path, warm_bash: Callable) -> None:  # noqa: F811
    wrong = warm_bash("gpt2 trian", scratch)
    assert wrong.returncode == 2 and b"trian" in wrong.stderr
    passed_on = warm_bash("A=b; echo 'Once upon' | gpt2 bpe-tokenize -o - | gpt2 shard cat --text - && pwd", scratch)
    assert passed_on.returncode == 0 and passed_on.stdout == f"Once upon\n{scratch}\n".encode(), passed_on.stderr
    assert warm_bash("yes | gpt2 bpe-tokenize -o /dev/full", scratch, timeout=30).returncode == 74
