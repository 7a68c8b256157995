"""gpt2 pack: token shards to a training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import Count, Real, files_argument, force_option, seed_option

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console


@click.command("pack", cls=Gpt2Command, short_help="Token shards to a training set with a validation split.")
@files_argument("shards", "[SHARD]...")
@click.option("--val-fraction", type=Real(0, 1, max_open=True), default=0.005, show_default=True,
              metavar="F", help="Share of the documents that validate; at least one does.")
@seed_option("Seed of the split.")
@click.option("--shard-tokens", type=Count(1), default="100M", show_default=True, metavar="N",
              help="Close a file once it holds this many tokens.")
@click.option("-o", "--output", required=True, type=click.Path(), metavar="DIR", help="The training set to make.")
@force_option()
@click.pass_obj
def command(console: Console, shards: tuple[str, ...], val_fraction: float, seed: int, shard_tokens: int,
            output: str, force: bool) -> None:
    """Split the documents of token shards into train and val, and write them with an index.json.

    The split depends on the seed and each document's tokens alone. Documents keep their order.
    """
    from gpt2cli.tokens.pack import PackConfig, pack_shards

    config = PackConfig(val_fraction=val_fraction, seed=seed, shard_tokens=shard_tokens, force=force)
    summary = pack_shards(shards, output, config, console)
    parts = " and ".join(f"{summary.tokens[split]:,} tokens in {summary.documents[split]:,} documents for {split}"
                         for split in ("train", "val"))
    console.note(f"{parts}; data {summary.data_sha256[:12]}")
