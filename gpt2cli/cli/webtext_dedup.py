"""gpt2 webtext-scrape dedup: documents without their duplicates, or one stage of that for many machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli import signals, webtext_options
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import AnyPath, Count, Real, Whole, files_argument, force_option, output_option
from gpt2cli.cli.webtext_outputs import outputs

if TYPE_CHECKING:
    from gpt2cli.webtext.dedup import DedupConfig

LEAST_MEMORY = 1 << 20
STAGES = ("signatures", "matches", "duplicates", "survivors")
OF_STAGES = {
    "rejects": (None, "survivors"), "dedup_profile": (None, "signatures"), "similarity": (None, "signatures"),
    "memory": (None, "signatures", "matches", "duplicates"), "jobs": (None, "signatures"), "work": (None,),
    "share": ("matches",), "matches": ("duplicates",), "duplicates": ("survivors",), "part": ("survivors",),
}
"""Options and the stages that they belong to; None is all of them in one run."""


@click.command("webtext-scrape", cls=Gpt2Command, context_settings=webtext_options.ENVIRONMENT)
@files_argument()
@output_option()
@force_option()
@webtext_options.rejects_option
@webtext_options.dedup_profile_option("--profile")
@click.option("--similarity", type=Real(0, 1), metavar="J",
              help="Jaccard similarity above which two documents are duplicates; default: the profile's.")
@click.option("--memory", type=Count(LEAST_MEMORY), default="256Mi", show_default=True, metavar="BYTES",
              help="Memory to sort in; the rest is sorted on disk.")
@webtext_options.jobs_option()
@click.option("--work", type=click.Path(file_okay=False), metavar="DIR",
              help="Keep what is finished there until the end, so that a stopped run goes on.")
@click.option("--stage", type=click.Choice(STAGES), help="Do only this stage, for many machines.")
@webtext_options.share_option("of the band keys (--stage matches)")
@click.option("--matches", multiple=True, type=AnyPath(), metavar="FILE",
              help="What --stage matches wrote, every share; may be repeated (--stage duplicates).")
@click.option("--duplicates", type=AnyPath(), metavar="FILE",
              help="What --stage duplicates wrote (--stage survivors).")
@click.option("--part", type=Whole(1, 1_000_000), default=1, show_default=True, metavar="I",
              help="Which of its inputs FILE is, as its signatures were given (--stage survivors).")
@click.pass_context
def dedup(ctx: click.Context, files: tuple[str, ...], output: str, force: bool, rejects: str | None, stage: str | None,
          **options: Any) -> None:
    """Remove exact and near duplicates; of each set the document with the earliest created_utc, then id, stays."""
    _check(ctx, stage, files)
    console: Console = ctx.obj
    config = _config(**{name: options[name] for name in ("dedup_profile", "similarity", "memory", "jobs", "work")})
    if stage == "signatures":
        from gpt2cli.webtext.dedup_stages import sign_input

        with signals.polled():
            sign_input(files[0] if files else "-", output, force, config, console)
        return
    with outputs(output, rejects, force, console) as (sink, steps), signals.polled():
        if stage is None:
            steps.dedup(files or ("-",), sink, config)
            return
        from gpt2cli.webtext import dedup_stages

        if stage == "matches":
            dedup_stages.find_matches(files, options["share"], sink, config.memory, console)
        elif stage == "duplicates":
            dedup_stages.list_duplicates(files, options["matches"], sink, config.memory, console)
        else:
            dedup_stages.write_part(files[0] if files else "-", options["duplicates"], options["part"], sink,
                                    steps.new_tally("dedup"), console)


def _check(ctx: click.Context, stage: str | None, files: tuple[str, ...]) -> None:
    given = {name for name in OF_STAGES if ctx.get_parameter_source(name) not in _UNSAID}
    for name in sorted(given):
        if stage not in OF_STAGES[name]:
            option = next(param.opts[-1] for param in ctx.command.params if param.name == name)
            stages = " or ".join(f"--stage {one}" if one else "a run without --stage" for one in OF_STAGES[name])
            raise click.UsageError(f"{option} is for {stages}")
    if stage in ("signatures", "survivors") and len(files) > 1:
        raise click.UsageError(f"--stage {stage} takes one FILE, not {len(files)}")
    if stage in ("matches", "duplicates") and not files:
        raise click.UsageError(f"--stage {stage} takes signature files, which --stage signatures makes")
    if stage == "survivors" and ctx.params["duplicates"] is None:
        raise click.UsageError("--stage survivors needs --duplicates FILE")


_UNSAID = (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP,
           click.core.ParameterSource.ENVIRONMENT)
"""Sources of a value that was not given for this run."""


def _config(dedup_profile: str, similarity: float | None, memory: int, jobs: int, work: str | None) -> DedupConfig:
    import dataclasses
    from pathlib import Path

    from gpt2cli.webtext.dedup import DedupConfig
    from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES

    chosen = DEDUP_PROFILES[dedup_profile]
    if similarity is not None:
        if not chosen.bands:
            raise click.UsageError("--similarity is for near duplicates, which --profile exact doesn't look for")
        chosen = dataclasses.replace(chosen, similarity=similarity)
    return DedupConfig(chosen, memory, jobs, Path(work) if work is not None else None)
