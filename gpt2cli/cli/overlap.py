"""gpt2 overlap: options to one OverlapConfig or BloomConfig and one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    OutputPath,
    Real,
    Text,
    Whole,
    files_argument,
    force_option,
    output_option,
)
from gpt2cli.cli.overlap_table import lines_of_passage, lines_of_set
from gpt2cli.errors import counted

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console
    from gpt2cli.overlap.measure import OverlapConfig

_ONLY_TO_BUILD = {"capacity": "--capacity", "rate": "--false-positive-rate"}
_ONLY_TO_MEASURE = {"tests": "--test", "preset": "--preset", "bloom": "--bloom", "by_line": "--by-line",
                    "show": "--show", "summary": "--summary"}


@click.command("overlap", cls=Gpt2Command, short_help="How much of a test set stands in the training text.")
@files_argument("train", metavar="[TRAIN]...")
@click.option("--test", "tests", type=AnyPath(), multiple=True, metavar="FILE",
              help="What is looked for: documents, text, shards, a shard set's val split, a task; may be given again.")
@click.option("--preset", metavar="NAME",
              help="The test files are data of this preset of eval-tasks, whose items are looked for.")
@click.option("-n", "--ngram", type=Whole(1, 1000), default=None, metavar="N",
              help="Words of an n-gram; default: the filter's, else 8.")
@click.option("--by-line", is_flag=True, help="Each line of a plain test text is a document.")
@click.option("--format", "form", type=click.Choice(["auto", "jsonl", "text"]), default="auto", show_default=True,
              help="What TRAIN is; auto tells by its name (.jsonl, .ndjson) or content.")
@click.option("--split-on", type=Text(), default=None, metavar="STRING",
              help="Cut plain text of TRAIN into documents at every STRING; implies --format text.")
@click.option("--show", type=Whole(0, 10_000), default=0, metavar="N",
              help="Show the N longest shared passages of each test file, and where in TRAIN they are.")
@click.option("--summary", is_flag=True, help="Write the record of all, and none a document.")
@click.option("--bloom", type=AnyPath(), default=None, metavar="FILE", help="A Bloom filter instead of TRAIN.")
@click.option("--write-bloom", type=OutputPath(), default=None, metavar="FILE",
              help="Make a Bloom filter of TRAIN here, for --bloom.")
@click.option("--capacity", type=Count(1), default=None, metavar="N",
              help="N-grams that the new filter is made for; default: counted first.")
@click.option("--false-positive-rate", "rate", type=Real(1e-15, 0.5), default=None, metavar="P",
              help="Of the new filter, at most; default 1e-8.")
@click.option("-j", "--jobs", type=Whole(1, 4096), default=None, metavar="N",
              help="Processes; default: the cores, at most 4. The result is the same.")
@output_option()
@force_option()
@click.pass_obj
def command(console: Console, train: tuple[str, ...], write_bloom: str | None, output: str, force: bool,
            **options: Any) -> None:
    """Count which n-grams of words of the test documents occur in TRAIN, as section 4 of the GPT-2 paper does.

    TRAIN is documents, text, directories, token shards or a shard set (its train split); no TRAIN is standard input.
    """
    from gpt2cli.tokens.ordered_pool import usable_cores
    from gpt2cli.tokens.tokenize import DEFAULT_JOBS

    options["jobs"] = options["jobs"] or min(usable_cores(), DEFAULT_JOBS)
    given = {option for name, option in {**_ONLY_TO_BUILD, **_ONLY_TO_MEASURE}.items() if options[name]}
    if write_bloom is not None:
        _refuse(given & set(_ONLY_TO_MEASURE.values()), "--write-bloom builds a filter and measures nothing")
        _build(console, train, write_bloom, output, force, options)
        return
    _refuse(given & set(_ONLY_TO_BUILD.values()), "only a filter that is built has one, with --write-bloom")
    if options["bloom"] is not None and train:
        raise click.UsageError(f"--bloom {options['bloom']} stands for the train side; leave {train[0]} out")
    _measure(console, _measure_config(train, options), options["preset"], output, force)


def _refuse(given: set[str], why: str) -> None:
    if given:
        raise click.UsageError(f"{min(given)}: {why}")


def _measure_config(train: tuple[str, ...], options: dict[str, Any]) -> OverlapConfig:
    from gpt2cli.overlap.inputs import InputForm
    from gpt2cli.overlap.measure import OverlapConfig

    return OverlapConfig(train, options["tests"], options["bloom"], options["ngram"],
                         InputForm(options["form"], options["split_on"]), options["by_line"], options["show"],
                         options["jobs"], options["summary"])


def _measure(console: Console, config: OverlapConfig, preset: str | None, output: str, force: bool) -> None:
    from gpt2cli.evaluation.paper_tasks.catalogue import takes_data
    from gpt2cli.evaluation.task_texts import preset_item_texts
    from gpt2cli.overlap.measure import measure_overlap
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    if preset is not None and takes_data(preset) and not config.tests:
        raise click.UsageError(f"--preset {preset}: name its data with --test FILE")
    lines: list[str] = []
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        made = None if preset is None else (preset, preset_item_texts(preset, config.tests))
        for kind, fields in measure_overlap(config, _item_texts, console, made):
            writer.write(kind, fields)
            if kind == "gpt2.overlap-passage":
                lines += lines_of_passage(fields)
            elif kind == "gpt2.overlap-set":
                lines += lines_of_set(fields)
        if output == "-":
            writer.end()
    for line in lines:
        console.note(line)


def _item_texts(path: str) -> Iterator[tuple[str, int, str]]:
    from gpt2cli.evaluation.task_texts import item_texts

    return item_texts(path)


def _build(console: Console, train: tuple[str, ...], path: str, output: str, force: bool, options: dict[str, Any]
           ) -> None:
    from gpt2cli.overlap.bloom import RATE
    from gpt2cli.overlap.build_bloom import BloomConfig, build_bloom
    from gpt2cli.overlap.inputs import InputForm
    from gpt2cli.overlap.measure import DEFAULT_N
    from gpt2cli.records.streams import open_output

    if output != "-":
        raise click.UsageError("--write-bloom FILE names the output; leave --output out")
    config = BloomConfig(train, options["ngram"] or DEFAULT_N, InputForm(options["form"], options["split_on"]),
                         options["rate"] or RATE, options["capacity"], options["jobs"])
    with open_output(path, force=force, binary=True, as_is=True) as stream:
        header = build_bloom(config, stream, console)
    console.note(f"{counted(header.n_grams, f'{header.n}-gram')} of {counted(header.documents, 'document')} "
                 f"in {header.bits // 8:,} bytes, false-positive rate {header.false_positive_rate:.1e}")
