"""gpt2 help: a man page, from the checkout or from where pip put it."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

import gpt2cli
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.errors import Gpt2Error, UsageFault

SECTIONS = (1, 5, 7)


@click.command("help", cls=Gpt2Command, short_help="Show a man page.")
@click.argument("topic", required=False, metavar="[COMMAND|TOPIC]")
@click.option("--path", is_flag=True, help="Print where the page is instead of showing it.")
def command(topic: str | None, path: bool) -> None:
    """Show the man page of COMMAND, or of a TOPIC: records, checkpoint, pipeline, shard.5. Without one: gpt2(1).

    A topic may end in a dot and the section of the manual, where a command has the same name.
    """
    page = find_page(topic)
    if path:
        click.echo(str(page))
        return
    pager = shutil.which("man")
    if pager is None:
        raise Gpt2Error(f"there is no man program here; the page is {page}, and gpt2 {topic or ''} --help is shorter")
    # man says nothing of a full disk, so where it shows nothing to a person its text is ours to write
    result = subprocess.run([pager, str(page)], check=False, stdout=None if sys.stdout.isatty() else subprocess.PIPE)
    if result.returncode not in (0, 141):
        raise Gpt2Error(f"man ended with status {result.returncode} on {page}")
    sys.stdout.buffer.write(result.stdout or b"")


def man_directories() -> list[Path]:
    """Return where man pages may be: the checkout first, then the installation's share/man."""
    checkout = Path(gpt2cli.__file__).parent.parent / "man"
    return [checkout, Path(sys.prefix) / "share" / "man", Path(os.path.expanduser("~/.local/share/man"))]


def find_page(topic: str | None) -> Path:
    """Return the page of a command or topic; raise UsageFault with the nearest name when there is none."""
    word, _, number = (topic or "").rpartition(".")
    word, sections = (word, (int(number),)) if number in map(str, SECTIONS) and word else (topic or "", SECTIONS)
    name = "gpt2" if word in ("", "gpt2") else f"gpt2-{word}"
    known: set[str] = set()
    for directory in man_directories():
        for section in sections:
            page = directory / f"man{section}" / f"{name}.{section}"
            if page.is_file():
                return page
            known.update(found.stem.removeprefix("gpt2-") for found in page.parent.glob("gpt2-*"))
    close = difflib.get_close_matches(topic or "", sorted(known), n=1, cutoff=0.5)
    raise UsageFault(f"no man page for {topic!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
