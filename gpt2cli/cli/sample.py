"""gpt2 sample: options to one SampleConfig and one call."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import AnyPath, Count, device_option, dtype_option, force_option, output_option, threads_option
from gpt2cli.cli.sample_options import drawing_options, ending_options, prompt_options, search_options

if TYPE_CHECKING:
    from gpt2cli.sampling.decoding import Decoding
    from gpt2cli.sampling.producer import Way
    from gpt2cli.sampling.prompts import PromptSource


@click.command("sample", cls=Gpt2Command, short_help="Generate text.")
@click.argument("model", required=False, envvar="GPT2_MODEL", metavar="[MODEL]", type=AnyPath())
@prompt_options()
@ending_options()
@drawing_options()
@search_options()
@click.option("--no-echo", is_flag=True, help="Print the continuation without its prompt.")
@click.option("--json", "as_json", is_flag=True, help="Write a gpt2.sample/1 record for every sample.")
@click.option("--logprobs", type=Count(0), metavar="N",
              help="In records: each token's log-probability, and the N most probable tokens of its place.")
@click.option("--no-cache", is_flag=True, help="Read the whole text again for every token: slow, the same text.")
@click.option("--batch", type=Count(1), default=8, show_default=True, metavar="N",
              help="Samples computed together: speed and memory, not the text.")
@dtype_option(auto=True)
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_obj
def command(console: Console, model: str | None, dtype: str, device: str, threads: int | None, output: str,
            force: bool, **options: Any) -> None:
    """Continue a prompt, or write from nothing.

    MODEL is a run, a checkpoint or a Hugging Face GPT-2 directory; default $GPT2_MODEL, else the newest run under
    runs/. The prompt is --prompt or --prompt-file, else standard input without its final newline, else end-of-text.
    """
    _check(options, output)
    from gpt2cli.records.streams import open_output
    from gpt2cli.sampling.open_model import ModelChoice
    from gpt2cli.sampling.sample import SampleConfig, sample

    config = SampleConfig(ModelChoice(model, device, dtype, threads), _prompt_source(options), _decoding(options),
                          _way(options), options["num_samples"], not options["no_echo"], options["as_json"])
    if options["interactive"]:
        from gpt2cli.cli.sample_interactive import converse

        converse(config, console)
        return
    to_stdout = output == "-"
    with open_output(output, force=force) as stream:
        if not (to_stdout and sys.stdout.isatty()):
            sample(config, stream, console, live=to_stdout, end=to_stdout)
            return
        from gpt2cli.cli.terminal_text import TerminalText

        shown = TerminalText(stream, console)
        try:
            sample(config, cast(BinaryIO, shown), console, live=True, end=True)
        finally:
            shown.finish()


def _check(options: dict[str, Any], output: str) -> None:
    """Refuse options that would do nothing."""
    sources = {"--prompt": options["prompt"] is not None, "--prompt-file": options["prompt_file"] is not None,
               "--lines": options["lines"], "--prompts": options["prompts_file"] is not None,
               "--interactive": options["interactive"]}
    given = [name for name, is_given in sources.items() if is_given]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} each say where prompts come from; give one of them")
    if options["as_json"] and options["no_echo"]:
        raise click.UsageError("--no-echo is for text; a record holds prompt and text apart")
    if options["logprobs"] is not None and not options["as_json"]:
        raise click.UsageError("--logprobs are fields of records; give --json too")
    for name in ("length_penalty", "early_stopping"):
        if options[name] is not None and options["beams"] is None:
            raise click.UsageError(f"--{name.replace('_', '-')} is a setting of beam search; give --beams too")
    if options["draft_tokens"] is not None and options["draft"] is None:
        raise click.UsageError("--draft-tokens is how many tokens a draft proposes; give --draft too")
    if options["interactive"]:
        if options["as_json"] or output != "-" or options["num_samples"] > 1:
            raise click.UsageError("--interactive shows one sample after another on the terminal; leave --json, "
                                   "--output and --num-samples out")
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise click.UsageError("--interactive needs a terminal; pipe prompts in with --lines instead")


def _prompt_source(options: dict[str, Any]) -> PromptSource:
    from gpt2cli.sampling.prompts import PromptSource

    return PromptSource(options["prompt"], options["lines"], options["prompts_file"], options["prompt_file"])


def _decoding(options: dict[str, Any]) -> Decoding:
    import dataclasses

    from gpt2cli.sampling.decoding import Decoding

    return Decoding(**{field.name: options[field.name] for field in dataclasses.fields(Decoding)})


def _way(options: dict[str, Any]) -> Way:
    from gpt2cli.sampling.decoding import Beams
    from gpt2cli.sampling.producer import Way

    beams = None
    if options["beams"] is not None:
        penalty = 1.0 if options["length_penalty"] is None else options["length_penalty"]
        beams = Beams(options["beams"], penalty, options["early_stopping"] or "no")
    return Way(beams, options["draft"], options["draft_tokens"] or 4, options["prompt_lookup"],
               not options["no_cache"], options["batch"])
