"""The largest and the smallest number that every option takes: a result, or a sentence; never a traceback."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from faults.failing_calls import WHOLE, Faults, Stage, some_of
from faults.stages import STAGES, TO_STDOUT

from gpt2cli.cli.main import COMMANDS
from gpt2cli.cli.options import Count

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
FURTHER = {
    "beams": ("sample", "runs/tiny", "--prompt", "The", "--max-tokens", "5", "--beams", "2"),
    "logprobs": ("sample", "runs/tiny", "--prompt", "The", "--max-tokens", "5", "--json", "--logprobs", "2"),
    "prompt lookup": ("sample", "runs/tiny", "--prompt", "The", "--max-tokens", "5", "--prompt-lookup", "2"),
    "draft": ("sample", "runs/tiny", "--prompt", "The", "--max-tokens", "5", "--draft", "runs/tiny"),
    "windows": ("eval-ppl", "runs/tiny", "docs.jsonl.zst", "--protocol", "sliding", "--stride", "16"),
    "packed": ("pack", "x.tok.zst", "--pack", "best-fit", "--context", "32", "-f", "-o", "set"),
    "wsd": ("train", "shards", "--layers", "1", "--embd", "16", "--context", "32", "--batch-tokens", "64", "--steps",
            "3", "--schedule", "wsd", "--on-spike", "skip", "--dtype", "fp32", "-f", "-o", "run"),
    "plan": ("fit-scaling", "plan", "--minutes", "1", "--flops-per-second", "1e12"),
    "plan of a run": ("fit-scaling", "plan", "--layers", "2", "--embd", "64", "--flops-per-second", "1e12"),
    "predict": ("fit-scaling", "predict", "--law", "hoffmann", "--n", "1e9", "--d", "1e10"),
    "compare": ("fit-scaling", "compare", "--law", "hoffmann", "--flops", "1e20"),
    "stop": ("fit-scaling", "stop", "--n", "1e9", "--d", "1e10"),
    "curve": ("fit-scaling", "curve", "metrics.jsonl"),
    "detect show": ("detect", "show", "runs/tiny", "docs.jsonl.zst"),
    "bloom": ("overlap", "docs.jsonl.zst", "-f", "--write-bloom", "made.bloom"),
    "megatron": ("shard", "export", "shards", "--to", "megatron", "--force", "-o", "megatron"),
    "llm.c": ("shard", "export", "shards", "--to", "llm.c", "--force", "-o", "llmc"),
    "doctor": ("doctor",),
}
LINES = TO_STDOUT | {name: stage.arguments for name, stage in STAGES.items()} | FURTHER
STATUSES = (0, 1, 2, 65, 74, 75, -signal.SIGTERM)
SECONDS = 8.0 if WHOLE else 2.0
"""After which a command that goes on for ever is asked to end; it has as long again to do so."""
BUGS = ("Traceback", "this is a bug", "Warning:", "Error:", "Error(")


def command_of(words: tuple[str, ...]) -> click.Command | None:
    if words[0] not in COMMANDS:
        return None
    found: click.Command = importlib.import_module(f"gpt2cli.cli.{COMMANDS[words[0]][1]}").command
    return getattr(found, "verbs", {}).get(words[1] if len(words) > 1 else "", found)


def extremes(command: click.Command) -> Iterator[tuple[str, str]]:
    """Options with the ends of their ranges."""
    for option in command.params:
        kind = option.type
        if isinstance(option, click.Option) and option.nargs == 1:
            name = next(word for word in option.opts if word.startswith("--"))
            if isinstance(kind, Count):
                yield from ((name, str(number)) for number in (kind.minimum, kind.maximum, kind.maximum - 1))
            elif isinstance(kind, (click.FloatRange, click.IntRange)):
                whole = isinstance(kind, click.IntRange)
                yield name, str(kind.min if kind.min is not None else -2**63 if whole else "-1e308")
                yield name, str(kind.max if kind.max is not None else 2**63 if whole else "1e308")
                if not whole:
                    yield name, "1e-308"


@pytest.mark.parametrize("name", some_of(LINES, 3, "extreme numbers"))
def test_the_ends_of_every_range(name: str, faults: Faults, work: Path) -> None:
    command = command_of(LINES[name])
    if command is None:
        return
    for option, value in extremes(command):
        done = faults.run(Stage((*LINES[name], option, value), ()), work, memory=2 << 30, seconds=SECONDS)
        assert done["status"] in STATUSES, (option, value, done)
        assert not any(word in done["stderr"] for word in BUGS), (option, value, done)
