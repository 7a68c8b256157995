"""gpt2 pack: token shards to a training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import Count, NewDirectory, Real, Whole, files_argument, force_option, seed_option

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console
    from gpt2cli.tokens.pack import PackSummary


@click.command("pack", cls=Gpt2Command, short_help="Token shards to a training set with a validation split.")
@files_argument("shards", "[SHARD]...")
@click.option("--val-fraction", type=Real(0, 1, max_open=True), default=0.005, show_default=True,
              metavar="F", help="Share of the documents that validate; at least one does, and with 0 just one.")
@click.option("--pack", "method", type=click.Choice(["concatenate", "best-fit"]), default="concatenate",
              show_default=True, help="Lay documents end to end, or in rows that cut only what is longer than a row.")
@click.option("--context", type=Count(2, 1 << 24), default=None, metavar="N",
              help="Tokens of a row of best-fit: the --context that train will have.")
@click.option("--shuffle", is_flag=True, help="Put documents in an order that depends on the seed and on them alone.")
@seed_option("Seed of the split and of the shuffle.")
@click.option("--shard-tokens", type=Count(1), default="100M", show_default=True, metavar="N",
              help="Close a file once it holds this many tokens.")
@click.option("-j", "--jobs", type=Whole(1, 256), default=None, metavar="N",
              help="Threads; they change no byte. Default: one for each CPU.")
@click.option("-o", "--output", required=True, type=NewDirectory(), metavar="DIR", help="The training set to make.")
@force_option()
@click.pass_obj
def command(console: Console, shards: tuple[str, ...], val_fraction: float, method: str, context: int | None,
            shuffle: bool, seed: int, shard_tokens: int, jobs: int | None, output: str, force: bool) -> None:
    """Split the documents of token shards into train and val, and write them with an index.json.

    The split depends on the seed and each document's tokens alone. Documents keep their order but with --shuffle or
    --pack best-fit.
    """
    from gpt2cli.tokens.ordered_pool import usable_cores
    from gpt2cli.tokens.pack import PackConfig, pack_shards

    config = PackConfig(val_fraction=val_fraction, seed=seed, shard_tokens=shard_tokens, method=method,
                        context=context, shuffle=shuffle, jobs=jobs or usable_cores(), force=force)
    summary = pack_shards(shards, output, config, console)
    for line in _report(summary):
        console.note(line)


def _report(summary: PackSummary) -> list[str]:
    """Return the statistics as lines."""
    lines = []
    for split in ("train", "val"):
        tokens, documents = summary.tokens[split], summary.documents[split]
        lines.append(f"{split}: {tokens:,} tokens in {documents:,} documents, {summary.text_bytes[split]:,} bytes of "
                     f"text ({summary.text_bytes[split] / max(1, tokens):.3f} bytes per token)")
    bins: dict[tuple[int, int], int] = {}
    for lengths in summary.lengths.values():
        for least, most, count in lengths.bins():
            bins[least, most] = bins.get((least, most), 0) + count
    total = sum(bins.values())
    lines.append("documents by length in tokens:")
    for (least, most), count in sorted(bins.items()):
        lines.append(f"{f'{least:,} to {most:,}' if most > least else f'{least:,}':>24} {count:>13,} "
                     f"{100 * count / total:5.1f} %")
    padding, tokens = sum(summary.padding.values()), sum(summary.tokens.values())
    lines.append(f"{summary.documents_cut:,} documents cut; {padding:,} tokens of padding "
                 f"({100 * padding / (tokens + padding):.4f} %); {summary.files} files; "
                 f"data {summary.data_sha256[:12]}")
    return lines
