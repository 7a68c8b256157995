"""Reading our man pages and README as data: sections, option tags, example commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from gpt2cli.cli.main import gpt2

ROOT = Path(__file__).resolve().parent.parent
MAN = ROOT / "man"
MARKERS = ("long", "gpu", "network")
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_ESCAPES = {r"\-": "-", r"\e": "\\", r"\(aq": "'", r"\(dq": '"', r"\(ti": "~", r"\(ha": "^", r"\(bu": "*",
            r"\&": "", r"\ ": " "}


def pages() -> list[Path]:
    """Return every man page of the checkout."""
    return sorted(MAN.glob("man?/*.?"))


def plain(text: str) -> str:
    """Return roff text without fonts, with escaped characters as themselves."""
    text = re.sub(r"\\f(?:\[[A-Z]*\]|[A-Z])", "", text)
    for escape, character in _ESCAPES.items():
        if escape != r"\e":
            text = text.replace(escape, character)
    return text.replace(r"\e", "\\")


def sections(page: Path) -> dict[str, str]:
    """Return the roff source of a page by the title of its .SH section."""
    parts = re.split(r"^\.SH +(.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title.strip().strip('"'): body for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def tags(roff: str) -> list[str]:
    """Return the tag lines of .TP and .TQ paragraphs, plain: fonts, macros and their quotes taken away."""
    found = []
    for tag in re.findall(r"^\.T[PQ][^\n]*\n([^\n]*)", roff, flags=re.MULTILINE):
        macro = re.match(r"\.(B|I|BR|RB|BI|IB|IR|RI)\s+", tag)
        if macro:
            words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', tag[macro.end():])]
            tag = (" " if len(macro[1]) == 1 else "").join(words)
        found.append(plain(tag))
    return found


def documented_options(page: Path) -> set[str]:
    """Return every option string that is in a tag of the page's tags."""
    roff = page.read_text(encoding="utf-8")
    return {option for tag in tags(roff) if tag.startswith("-") for option in OPTION.findall(tag)}


def real_options(name: str) -> set[str]:
    """Return every option string that click knows for a command and, if it has them, its steps or verbs."""
    parent = click.Context(gpt2, info_name="gpt2", **gpt2.context_settings)
    command = gpt2.get_command(parent, name)
    assert command is not None
    return _options(command, click.Context(command, info_name=name, parent=parent))


def _options(command: click.Command, context: click.Context) -> set[str]:
    found = {option for parameter in command.get_params(context) if isinstance(parameter, click.Option)
             for option in (*parameter.opts, *parameter.secondary_opts)}
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found |= _options(child, click.Context(child, info_name=name, parent=context))
    return found


_OUTPUT = re.compile(r"""('[^']*'|"[^"]*")|(?<!\w)\d?>>?(?:&\d|\s*[^\s;|&]+)""")
"""A quoted string, which stays, or the redirection of an output, which goes."""


_COMMENT = re.compile(r"\s# [^'\"]*$")
"""What follows a command: its marker, with or without more words, or a remark."""


@dataclass(frozen=True)
class Example:
    """One command line of a page: the text for bash, and its marker (long, gpu, network) if it has one."""

    text: str
    marker: str | None


def page_examples(page: Path) -> list[Example]:
    """Return the `$ ` lines in the EXAMPLES section of a page."""
    roff = sections(page).get("EXAMPLES", "")
    blocks = re.findall(r"^\.EX\n(.*?)^\.EE", roff, flags=re.MULTILINE | re.DOTALL)
    return [example for block in blocks for example in _examples(plain(block))]


def markdown_examples(path: Path) -> list[Example]:
    """Return the `$ ` lines in the ```console blocks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [example for block in blocks for example in _examples(block)]


def _examples(block: str) -> list[Example]:
    lines, found = block.splitlines(), []
    while lines:
        line = lines.pop(0)
        if not line.startswith("$ "):
            continue
        text = line[2:]
        while text.endswith("\\") and lines:
            text += "\n" + lines.pop(0).removeprefix("> ")
        comment = _COMMENT.search(text)
        marker = re.match(r"\s#\s*(\w+)", comment[0]) if comment else None
        found.append(Example(text, marker[1] if marker and marker[1] in MARKERS else None))
    return found


def simple_commands(text: str) -> list[list[str]]:
    """Split a shell line at its operators into lists of words, redirections and assignments dropped."""
    text = _COMMENT.sub("", text.replace("\\\n", " "))
    text = _OUTPUT.sub(lambda match: match[1] or " ", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split, lexer.commenters = True, ""
    commands: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word == "<":
            next(words, None)
        elif set(word) <= set("();|&"):
            commands.append([])
        elif commands[-1] or not re.fullmatch(r"\w+=.*", word, re.DOTALL):
            commands[-1].append(word)
    return [command for command in commands if command]


def parse_by_click(words: list[str]) -> str:
    """Parse the words after `gpt2` with the real parser, run nothing; return the command's name.

    Raises click.UsageError for what the command would refuse.
    """
    try:
        context = gpt2.make_context("gpt2", list(words))
    except click.exceptions.Exit:
        return words[0]
    rest = _left_over(context)
    _make(gpt2, context, rest)
    return rest[0]


def _make(group: click.Group, context: click.Context, words: list[str]) -> None:
    name, command, rest = group.resolve_command(context, words)
    assert command is not None
    try:
        child = command.make_context(name, rest, parent=context)
    except click.exceptions.Exit:
        return
    remaining = _left_over(child)
    if isinstance(command, click.Group) and remaining:
        _make(command, child, remaining)


def _left_over(context: click.Context) -> list[str]:
    """Return what a group left for its commands; click is moving it from one attribute to the other."""
    return [*getattr(context, "_protected_args", []), *context.args]
