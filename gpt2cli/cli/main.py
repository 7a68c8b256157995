"""The command table and entry(): exit statuses, signals, and a stdout whose reader may leave.

Exit status: 0 done; 1 failure; 2 usage; 65 bad input; 74 I/O error; 75 stopped early, run again; 128+n by signal n.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from typing import NoReturn

import click

import gpt2cli
from gpt2cli.cli import signals
from gpt2cli.cli.console import say
from gpt2cli.cli.out_of_memory import memory_sentence
from gpt2cli.cli.stdout import open_stdout
from gpt2cli.cli.surroundings import NO_DIRECTORY, directory_is_gone
from gpt2cli.errors import Gpt2Error, Interrupted, StdoutGone, is_out_of_memory, os_sentence

COMMANDS: dict[str, tuple[str, str, str]] = {
    "webtext-scrape": ("corpus", "webtext_scrape", "Reddit links to clean, de-duplicated documents."),
    "bpe-train": ("tokens", "bpe_train", "Train a byte-level BPE vocabulary."),
    "vocab": ("tokens", "vocab", "Describe a vocabulary, or export it for other tools."),
    "bpe-tokenize": ("tokens", "bpe_tokenize", "Documents or text to a token shard."),
    "pack": ("tokens", "pack", "Token shards to a training set with a validation split."),
    "shard": ("tokens", "shard", "Look into token shards; import and export other formats."),
    "train": ("model", "train", "Train GPT-2 of any size."),
    "eval-ppl": ("model", "eval_ppl", "Perplexity and bits per byte by a named protocol."),
    "eval-tasks": ("model", "eval_tasks", "Accuracy and more on tasks, few-shot or not."),
    "eval-diff": ("model", "eval_diff", "Is one evaluation better than another, item by item."),
    "eval-text": ("model", "eval_text", "Quality of generated text: diversity, repetition, likeness."),
    "sample": ("model", "sample", "Generate text."),
    "quantize": ("model", "quantize", "Weights in 8 or 4 bits: smaller and faster."),
    "export": ("model", "export", "A model in another program's files."),
    "import": ("model", "import_model", "Another program's model to a checkpoint."),
    "detect": ("model", "detect", "Tell generated text from human text, and say how surely."),
    "fit-scaling": ("study", "fit_scaling", "Fit a scaling law to runs and plan by it."),
    "plot": ("study", "plot", "Draw metrics, fits and evaluations, as a file or in the terminal."),
    "overlap": ("study", "overlap", "How much of a test set stands in the training text."),
    "verify": ("study", "verify", "Check artefacts against their digests."),
    "doctor": ("study", "doctor", "What this machine and installation can do, and what to fix."),
    "help": ("study", "help", "Show a man page."),
}
"""Name -> (group in the help, module in gpt2cli.cli, one line). Modules are imported only when called."""

GROUPS = {"corpus": "Corpus", "tokens": "Tokens", "model": "Model", "study": "Study"}


class CommandTable(click.Group):
    """A group that imports a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in pipeline order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"gpt2cli.cli.{COMMANDS[cmd_name][1]}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "see gpt2 --help"
            raise click.UsageError(f"no such command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table from COMMANDS, without importing anything."""
        for group, title in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (where, _, line) in COMMANDS.items() if where == group])


@click.command(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "GPT2"},
               no_args_is_help=False, invoke_without_command=True,
               epilog="gpt2 help COMMAND shows a command's man page; gpt2 help pipeline how they compose.")
@click.version_option(gpt2cli.__version__, prog_name="gpt2", message="%(prog)s %(version)s")
@click.pass_context
def gpt2(ctx: click.Context) -> None:
    """Rebuild GPT-2 end to end, and study how it scales.

    The commands pass each other compressed token shards and JSONL records, so they compose with pipes and make.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        raise click.exceptions.Exit(2)


def entry() -> NoReturn:
    """Run the command line and end the process with the documented status."""
    _reserve_standard_streams()
    sys.stdout = open_stdout()
    # OpenMP's threads spin while they wait; beside any other busy process that made training five times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signals.install()
    name = "gpt2"
    try:
        status = _complete_or_run(sys.argv[1:])
        sys.stdout.flush()
    except StdoutGone:
        signals.silence_stdout()
        signals.die_of(signal.SIGPIPE)
        status = 141
    except signals.SignalReceived as stop:
        signals.settle()
        _die(stop.number)
    except Interrupted as stop:
        if str(stop):
            say(f"gpt2: {stop}")
        _die(signals.received() or signal.SIGINT)
    except Exception as error:
        name = _command_name(sys.argv[1:])
        status = _explain(name, error)
    _finish(status)


def _complete_or_run(arguments: list[str]) -> int:
    instruction = os.environ.get("_GPT2_COMPLETE")
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(gpt2, {}, "gpt2", "_GPT2_COMPLETE", instruction)
    try:
        with gpt2.make_context("gpt2", list(arguments)) as context:
            gpt2.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    return 0


def _command_name(arguments: list[str]) -> str:
    return " ".join(("gpt2", *_from_command(arguments)[:1]))


def _from_command(arguments: list[str]) -> list[str]:
    return next((arguments[place:] for place, word in enumerate(arguments) if word in COMMANDS), [])


def _explain(name: str, error: Exception) -> int:
    if isinstance(error, Gpt2Error):
        if str(error):  # a rank that ends with another has nothing to add
            say(f"{name}: {error}")
        return error.status
    if isinstance(error, click.UsageError):
        if error.ctx and getattr(error.ctx.command, "silent", False):
            return 2
        path = error.ctx.command_path if error.ctx else name
        message = error.format_message().replace("\n\t", " ")  # click's lists of choices
        hint = "" if message.endswith("?") or "--help" in message else f" (see {path} --help)"
        say(f"{path}: {message.removesuffix('.')}{hint}")
        return 2
    if isinstance(error, click.ClickException):
        say(f"{name}: {error.format_message()}")
        return error.exit_code
    if isinstance(error, click.Abort):
        return 1
    if isinstance(error, OSError):
        gone = isinstance(error, FileNotFoundError) and directory_is_gone()
        say(f"{name}: {NO_DIRECTORY if gone else os_sentence(error)}")
        return 74
    if is_out_of_memory(error):
        say(f"{name}: {memory_sentence(_from_command(sys.argv[1:]), error)}")
        return 1
    traceback.print_exc()
    say(f"{name}: this is a bug in gpt2cli; please report it with the lines above")
    return 1


def _finish(status: int) -> NoReturn:
    signals.settle()
    try:
        sys.stdout.flush()
    except StdoutGone:
        signals.silence_stdout()
        if status == 0:
            signals.die_of(signal.SIGPIPE)
    except OSError as error:
        signals.silence_stdout()
        if status == 0:
            say(f"gpt2: {os_sentence(error)}")
            status = 74
    sys.exit(status)


def _die(number: int) -> NoReturn:
    signals.silence_stdout()
    signals.die_of(number)
    sys.exit(128 + number)


def _reserve_standard_streams() -> None:
    """Fill closed descriptors 0 to 2 with /dev/null opened the wrong way round, so that using one fails."""
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            if descriptor == 0:
                sys.stdin = open(0, "w", closefd=False)  # noqa: SIM115
            if descriptor == 2:
                sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
