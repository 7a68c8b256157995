"""The click command class of every gpt2 command: --config, -q and -v, and where each value came from."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from gpt2cli.cli import signals
from gpt2cli.cli.console import Console, Follower, follows
from gpt2cli.cli.options import Count
from gpt2cli.cli.output_checks import check_outputs
from gpt2cli.cli.surroundings import check_surroundings
from gpt2cli.errors import UsageFault


class Gpt2Command(click.Command):
    """A command that knows --config, --quiet and --verbose, and hands its callback a Console through ctx.obj."""

    def __init__(self, *args: Any, many_ranks: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._many_ranks = many_ranks
        self.params += [
            click.Option(["--config"], type=click.Path(dir_okay=False), is_eager=True, expose_value=False,
                         callback=_read_config, metavar="FILE",
                         help="TOML file with a table per command; flags and GPT2_* variables win over it."),
            click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, is_eager=True, callback=_set_quiet,
                         help="Say only warnings and errors."),
            click.Option(["-v", "--verbose"], is_flag=True, expose_value=False, is_eager=True, callback=_set_verbose,
                         help="Say every option's value and where it came from."),
        ]

    @property
    def silent(self) -> bool:
        """Whether it runs as one rank of several, beside one that says what there is to say."""
        return self._many_ranks and follows()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an option's variable is the prefix and its long name, whatever its parameter is called here."""
        prefix = ctx.auto_envvar_prefix
        for param in self.params:
            long = next((name for name in param.opts if name.startswith("--")), None)
            if prefix and long and param.envvar is None and isinstance(param, click.Option):
                param.envvar = f"{prefix}_{long.removeprefix('--')}".replace("-", "_").upper()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the callback with a Console that is taken away at the end."""
        console = (Follower() if self.silent
                   else Console(f"gpt2 {self.name}", quiet=ctx.meta.get("gpt2.quiet", False)))
        ctx.obj = console
        check_surroundings(self.name or "")
        if ctx.meta.get("gpt2.verbose"):
            for line in _settings(ctx):
                console.note(line)
        if not (self._many_ranks and signals.launched_with_others()):  # who refuses alone leaves the others waiting
            check_outputs(ctx)
        try:
            return super().invoke(ctx)
        finally:
            console.close()


def _settings(ctx: click.Context) -> list[str]:
    words = {
        ParameterSource.COMMANDLINE: "flag", ParameterSource.ENVIRONMENT: "environment",
        ParameterSource.DEFAULT_MAP: "config file", ParameterSource.DEFAULT: "default",
    }
    lines = []
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        lines.append(f"{name} = {value!r} ({words.get(source, 'default') if source else 'default'})")
    return lines


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta["gpt2.quiet"] = value


def _set_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta["gpt2.verbose"] = value


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    from gpt2cli.cli.main import COMMANDS
    from gpt2cli.records.toml_file import read_toml

    try:
        config = read_toml(value)
    except UsageFault as error:
        raise click.UsageError(str(error), ctx) from None
    for table, content in config.items():
        if not isinstance(content, dict):
            raise click.UsageError(f"{value}: {table} stands in no table; options go below [{ctx.command.name}]", ctx)
        if table not in COMMANDS:
            raise click.UsageError(f"{value}: [{table}] is no table of a gpt2 command", ctx)
    table = config.get(ctx.command.name or "", {})
    known = _options(ctx.command)
    keys = {key.replace("-", "_"): key for key in table}
    unknown = sorted(set(keys) - set(known) - _keys_of_verbs(ctx))
    if unknown:
        raise click.UsageError(f"{value}: [{ctx.command.name}] has unknown key {keys[unknown[0]]!r}", ctx)
    twice = sorted(set(table) - set(keys.values()))
    if twice:
        raise click.UsageError(f"{value}: [{ctx.command.name}] has {twice[0]!r} in two spellings", ctx)
    values: dict[str, Any] = {}
    for key, spelt in keys.items():
        option = known.get(key)
        if option is not None and not (option.is_flag and not option.is_bool_flag and table[spelt] is False):
            values[str(option.name)] = _as_typed(option, table[spelt], f"{value}: {spelt}", ctx)
    ctx.default_map = values


def _as_typed(option: click.Option, value: Any, where: str, ctx: click.Context) -> bool | str | list[str]:
    """Return a value of TOML as it would be typed after its flag; UsageError for one that can't be."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.UsageError(f"{where} is {_shown(value)}; a flag is true or false", ctx)
        return value if option.is_bool_flag else str(option.flag_value)
    if option.nargs > 1:
        if not isinstance(value, list) or len(value) != option.nargs:
            raise click.UsageError(f"{where} takes an array of {option.nargs} values", ctx)
    elif not option.multiple:
        return _word(option, value, where, ctx)
    return [_word(option, each, where, ctx) for each in (value if isinstance(value, list) else [value])]


def _word(option: click.Option, value: Any, where: str, ctx: click.Context) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise click.UsageError(f"{where} is {_shown(value)}; it takes a string or a number", ctx)
    if isinstance(value, float) and not isinstance(option.type, (Count, click.types.FloatParamType, click.IntRange)):
        raise click.UsageError(f"{where} is a number, which is written in many ways; put it in quotes", ctx)
    try:
        word = str(value)
    except ValueError:  # Python writes no number of thousands of digits
        raise click.UsageError(f"{where} is a number of too many digits", ctx) from None
    if "\0" in word:
        raise click.UsageError(f"{where} has a character 0 in it, which no option can have", ctx)
    return word


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {list: "an array", dict: "a table", str: "a string", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date or a time")


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by the keys that a table may have for them."""
    return {option.removeprefix("--").replace("-", "_"): param
            for param in command.params if isinstance(param, click.Option) for option in param.opts}


def _keys_of_verbs(ctx: click.Context) -> set[str]:
    """Return the keys of all verbs of a command: they share its table, and each takes what it knows."""
    root = ctx.find_root().command
    name = ctx.command.name
    command = root.get_command(ctx, name) if isinstance(root, click.Group) and name is not None else None
    verbs = getattr(command, "verbs", {}).values()
    return {key for one in (command, *verbs) if one is not None for key in _options(one)}
