"""Commands with verbs: the first argument may name one, which has options of its own."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command


class VerbCommand(Gpt2Command):
    """Hands over to a verb when the first argument names one. The verbs are put in once they are defined."""

    verbs: dict[str, click.Command]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the verb that is asked for, else this command's own."""
        if args and args[0] in self.verbs:
            return self.verbs[args[0]].make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        """Return the command of a verb."""
        return self.verbs[name]
