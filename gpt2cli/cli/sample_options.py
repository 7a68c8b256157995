"""The options of gpt2 sample, group by group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gpt2cli.cli.options import AnyPath, Count, Real, Text, seed_option

Decorator = Callable[[Any], Any]
EARLY_STOPPING = ("no", "yes", "never")


def _all(*options: Decorator) -> Decorator:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def prompt_options() -> Decorator:
    """Where prompts come from."""
    return _all(
        click.option("--prompt", metavar="TEXT", help="Text to go on from."),
        click.option("--prompt-file", metavar="FILE", type=AnyPath(), help="A file that is the prompt."),
        click.option("--lines", is_flag=True, help="Every line of standard input is a prompt."),
        click.option("--prompts", "prompts_file", metavar="FILE", type=AnyPath(),
                     help="JSONL with a prompt field in every record."),
        click.option("-i", "--interactive", is_flag=True, help="Ask for prompts on the terminal, one after another."),
        click.option("--num-samples", type=Count(1), default=1, show_default=True, metavar="N",
                     help="Samples of each prompt; with --beams the N best."),
    )


def ending_options() -> Decorator:
    """Where a sample ends."""
    return _all(
        click.option("--max-tokens", type=Count(1), default=256, show_default=True, metavar="N",
                     help="Longest continuation; end-of-text ends it sooner."),
        click.option("--min-tokens", type=Count(0), default=0, show_default=True, metavar="N",
                     help="Neither end-of-text nor a stop ends a sample before this."),
        click.option("--stop", multiple=True, type=Text(), metavar="TEXT",
                     help="End before this text; may be given several times."),
        click.option("--ignore-eot", is_flag=True, help="Go on after end-of-text, which shows as <|endoftext|>."),
        click.option("--slide", is_flag=True, help="Go on beyond the context: it is given its last half again."),
    )


def drawing_options() -> Decorator:
    """How a token is drawn."""
    return _all(
        click.option("--temperature", type=Real(0), default=1.0, show_default=True, metavar="T",
                     help="Below 1 sharper, above 1 flatter, 0 always the most probable token."),
        click.option("--top-k", type=Count(1), metavar="K", help="Draw from the K most probable tokens."),
        click.option("--top-p", type=Real(0, 1, min_open=True), metavar="P",
                     help="Draw from the most probable tokens that together have probability P."),
        click.option("--min-p", type=Real(0, 1), metavar="P",
                     help="Draw from tokens at least P times as probable as the most probable."),
        click.option("--typical-p", type=Real(0, 1, min_open=True), metavar="P",
                     help="Draw from the tokens of the most typical surprise that together have probability P."),
        click.option("--repetition-penalty", type=Real(0.01, 100), default=1.0, show_default=True, metavar="X",
                     help="Above 1: tokens of the prompt and the text become less probable."),
        click.option("--presence-penalty", type=Real(-100, 100), default=0.0, show_default=True, metavar="X",
                     help="Taken off the logit of every token that was made before."),
        click.option("--frequency-penalty", type=Real(-100, 100), default=0.0, show_default=True, metavar="X",
                     help="Taken off a token's logit for each time it was made before."),
        seed_option("Seed; sample i of prompt j draws from its own stream."),
    )


def search_options() -> Decorator:
    """Other ways to decode than token by token."""
    return _all(
        click.option("--beams", type=Count(1), metavar="N", help="Beam search of width N for the most probable text."),
        click.option("--length-penalty", type=Real(-10, 10), metavar="X",
                     help="A beam scores its log-probability over its length to the power X; default 1."),
        click.option("--early-stopping", type=click.Choice(EARLY_STOPPING), default=None,
                     help="Whether beam search ends once N beams are finished; never: search on till none can win."),
        click.option("--draft", metavar="MODEL", type=AnyPath(), help="A smaller model proposes, the model verifies."),
        click.option("--draft-tokens", type=Count(1), metavar="K", help="Tokens proposed at once; default 4."),
        click.option("--prompt-lookup", type=Count(1), metavar="K",
                     help="Propose K tokens that followed the last ones earlier in the text."),
    )
