"""gpt2 sample: options to one SampleConfig and one call."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console, harmless
from gpt2cli.cli.options import (
    Count,
    Real,
    device_option,
    dtype_option,
    force_option,
    output_option,
    seed_option,
    threads_option,
)

if TYPE_CHECKING:
    from gpt2cli.sampling.prompts import PromptSource


@click.command("sample", cls=Gpt2Command, short_help="Generate text.")
@click.argument("model", required=False, envvar="GPT2_MODEL", metavar="[MODEL]", type=click.Path())
@click.option("--prompt", metavar="TEXT", help="Text to go on from.")
@click.option("--lines", is_flag=True, help="Every line of standard input is a prompt.")
@click.option("--prompts", "prompts_file", metavar="FILE", type=click.Path(),
              help="JSONL with a prompt field in every record.")
@click.option("--num-samples", type=Count(1), default=1, show_default=True, metavar="N", help="Samples of each prompt.")
@click.option("--max-tokens", type=Count(1), default=256, show_default=True, metavar="N",
              help="Longest continuation; end-of-text ends it sooner.")
@click.option("--temperature", type=Real(0), default=1.0, show_default=True, metavar="T",
              help="Below 1 sharper, above 1 flatter, 0 always the most probable token.")
@click.option("--top-k", type=Count(1), metavar="K", help="Draw from the K most probable tokens.")
@click.option("--top-p", type=Real(0, 1, min_open=True), metavar="P",
              help="Draw from the most probable tokens that together have probability P.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given several times.")
@seed_option("Seed; sample i of prompt j draws from its own stream.")
@click.option("--no-echo", is_flag=True, help="Print the continuation without its prompt.")
@click.option("--json", "as_json", is_flag=True, help="Write a gpt2.sample/1 record for every sample.")
@click.option("--no-cache", is_flag=True, help="Read the whole text again for every token: slow, the same text.")
@click.option("--batch", type=Count(1), default=8, show_default=True, metavar="N",
              help="Samples computed together: speed and memory, not the text.")
@dtype_option()
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_obj
def command(
    console: Console, model: str | None, prompt: str | None, lines: bool, prompts_file: str | None, num_samples: int,
    max_tokens: int, temperature: float, top_k: int | None, top_p: float | None, stop: tuple[str, ...], seed: int,
    no_echo: bool, as_json: bool, no_cache: bool, batch: int, dtype: str, device: str, threads: int | None,
    output: str, force: bool,
) -> None:
    """Continue a prompt, or write from nothing.

    MODEL is a run, a checkpoint or a Hugging Face GPT-2 directory; default $GPT2_MODEL, else the newest run under
    runs/. The prompt is --prompt, else standard input as one prompt without its final newline, else end-of-text.
    """
    if as_json and no_echo:
        raise click.UsageError("--no-echo is for text; a record holds prompt and text apart")
    source = _prompt_source(prompt, lines, prompts_file)
    from gpt2cli.records.streams import open_output
    from gpt2cli.sampling.decoding import Decoding
    from gpt2cli.sampling.open_model import ModelChoice
    from gpt2cli.sampling.sample import SampleConfig, sample

    decoding = Decoding(max_tokens, temperature, top_k, top_p, stop, seed)
    config = SampleConfig(ModelChoice(model, device, dtype, threads), source, decoding, num_samples,
                          not no_echo, as_json, not no_cache, batch)
    to_stdout = output == "-"
    with open_output(output, force=force) as stream:
        if to_stdout and sys.stdout.isatty():
            stream = cast(BinaryIO, _TerminalText(stream))
        sample(config, stream, console, live=to_stdout, end=to_stdout)


def _prompt_source(prompt: str | None, lines: bool, prompts_file: str | None) -> PromptSource:
    from gpt2cli.sampling.prompts import PromptSource

    if (prompt is not None) + lines + (prompts_file is not None) > 1:
        raise click.UsageError("--prompt, --lines and --prompts each say where prompts come from; give one of them")
    return PromptSource(prompt, lines, prompts_file)


class _TerminalText(io.RawIOBase):
    """Passes UTF-8 on to a terminal with control characters written as escapes. Each write is whole characters."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        """Write `data` made harmless."""
        self._stream.write(harmless(bytes(data).decode("utf-8", "replace")).encode())
        return len(data)

    def flush(self) -> None:
        """Flush the terminal."""
        self._stream.flush()
