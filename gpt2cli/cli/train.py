"""gpt2 train: options to one TrainOptions and one call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli import signals
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    OutputPath,
    Real,
    device_option,
    force_option,
    seed_option,
    threads_option,
)
from gpt2cli.cli.output_checks import check_outputs
from gpt2cli.errors import StdoutGone

if TYPE_CHECKING:
    from gpt2cli.records.shard_set import ShardSet
    from gpt2cli.training.branch import Branch
    from gpt2cli.training.config import TrainConfig, TrainOptions
    from gpt2cli.training.initial_weights import InitialWeights
    from gpt2cli.training.trainer import TrainSummary

_OF_A_BRANCH = {"decay_tokens", "eval_every", "eval_tokens", "checkpoint_every", "noise_every", "layers_every"}
"""What a branch may set for itself."""


@click.command("train", cls=Gpt2Command, many_ranks=True, short_help="Train GPT-2 of any size.")
@click.argument("shards", type=AnyPath(), metavar="SHARDS")
@click.option("--size", metavar="NAME", help="small (the default), medium, large or xl.")
@click.option("--layers", type=Count(1), metavar="N", help="Layers of a ladder model; with --embd.")
@click.option("--embd", type=Count(1), metavar="N", help="Width of a ladder model.")
@click.option("--heads", type=Count(1), metavar="N", help="Heads of a ladder model; default: head size 64, or less.")
@click.option("--context", type=Count(1), metavar="TOKENS",
              help="Context length; default 1024, or the one the shards were packed for.")
@click.option("--recipe", type=click.Choice(["modern", "gpt"]), default="modern", show_default=True,
              help="Defaults of the reproductions, or those of the first GPT.")
@click.option("--batch-tokens", type=Count(1), metavar="TOKENS", help="Tokens in an optimizer step; default 524,288.")
@click.option("--micro-batch", type=Count(1), metavar="N", help="Sequences at once: memory only, not the result.")
@click.option("--activation-checkpointing/--no-activation-checkpointing", default=None,
              help="Keep one activation a block and compute the rest again: less memory, a third more work, same bits; "
                   "default: where memory is short.")
@click.option("--steps", type=Count(1), metavar="N", help="Length of the run in steps; default: one epoch.")
@click.option("--tokens", type=Count(1), metavar="N", help="Length of the run in tokens, in place of --steps.")
@click.option("--lr", type=Real(0, min_open=True), metavar="RATE",
              help="Peak learning rate; default by size.")
@click.option("--warmup", type=Count(0), metavar="STEPS", help="Warm-up; default 5 % of the run, at most 2,000.")
@click.option("--schedule", type=click.Choice(["cosine", "linear", "wsd"]), default="cosine", show_default=True,
              help="How the rate falls to a tenth of its peak; wsd holds it, then decays.")
@click.option("--decay-tokens", type=Count(0), metavar="N",
              help="How long wsd decays, 0 for never; default: the last fifth of the run.")
@click.option("--init-from", type=AnyPath(), metavar="MODEL",
              help="Begin with this model's weights: a run, a checkpoint or a Hugging Face directory.")
@click.option("--doc-mask", is_flag=True, help="Keep attention within documents.")
@click.option("--branch-from", type=AnyPath(), metavar="RUN",
              help="Decay from a step of this wsd run, in a run directory of its own.")
@click.option("--at", "branch_step", type=Count(1), metavar="STEP", help="The step that --branch-from goes on from.")
@click.option("--weight-decay", type=Real(0), metavar="X", help="On matrices; default 0.1.")
@click.option("--dropout", type=Real(0, 1, max_open=True), metavar="P", help="Default 0.")
@click.option("--clip", type=Real(0), default=1.0, show_default=True, metavar="NORM",
              help="Gradient norm limit; 0 for none.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
              help="Matrix products; auto is bf16 where the hardware has it. Weights are fp32.")
@click.option("--weights", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True,
              help="What the network holds; bf16 with fp32 masters in the optimizer: less memory, loss as in bf16.")
@click.option("--moments", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True,
              help="What Adam's moments are kept in; bf16 is rounded by chance and halves them.")
@device_option()
@threads_option()
@seed_option("Seed of the initial weights, the data order and dropout.")
@click.option("--eval-every", type=Count(1), metavar="STEPS", help="Default: a twentieth of the run, 10 to 250 steps.")
@click.option("--eval-tokens", type=Count(1), default=65_536, show_default=True, metavar="TOKENS",
              help="How much of the validation split to score.")
@click.option("--noise-every", type=Count(0), metavar="STEPS",
              help="Measure the gradient noise at every STEPS-th step, for fit-scaling batch; default 0: never.")
@click.option("--parallel", metavar="fsdp|tp=N|pp=N",
              help="Divide the model among the ranks of torchrun; default: each has all of it.")
@click.option("--compile", type=click.Choice(["auto", "native", "torch", "off"]), default="auto", show_default=True,
              help="native: kernels compiled for this CPU, in seconds; torch: torch.compile; auto: native or off.")
@click.option("--deterministic", is_flag=True,
              help="Sum gradients in one order, so that 1, 2, 4, 8 ... ranks give the same bits.")
@click.option("--layers-every", type=Count(0), metavar="STEPS",
              help="Record every layer's gradient and update norms at every STEPS-th step; default 0: never.")
@click.option("--on-spike", type=click.Choice(["stop", "skip", "rollback"]),
              help="What to do about a batch whose loss or gradient leaps; default: only what is not finite stops.")
@click.option("--spike-sigmas", type=Real(0), metavar="X",
              help="A leap is X deviations above the last 128 steps; default 6, 0: only what is not finite.")
@click.option("--checkpoint-every", type=Count(1), metavar="STEPS",
              help="Default: a fifth of the run, 10 to 1,000 steps.")
@click.option("--keep", type=Count(2), default=2, show_default=True, metavar="N", help="Newest checkpoints to keep.")
@click.option("--max-time", type=Real(0, min_open=True), metavar="SECONDS",
              help="Stop after the step that passes this, with status 75; the same command goes on.")
@click.option("-o", "--output", type=OutputPath(file=False, directory=True, parents=True), metavar="DIR",
              help="Run directory; default runs/NAME.")
@click.option("--override", is_flag=True, help="Go on with an unfinished run under changed options.")
@force_option()
@click.option("--dry-run", is_flag=True, help="Print what the run would cost and write; do nothing.")
@click.pass_obj
def command(
    console: Console, shards: str, device: str, threads: int | None, keep: int, max_time: float | None,
    parallel: str | None, output: str | None, override: bool, force: bool, dry_run: bool, branch_from: str | None,
    branch_step: int | None, init_from: str | None, activation_checkpointing: bool | None, **options: Any,
) -> None:
    """Train GPT-2 on SHARDS, a directory made by gpt2 pack.

    The run goes to runs/NAME, its metrics also to standard output when that is not a terminal. The same command on
    an unfinished run goes on where its newest checkpoint stands, to the same bytes; on a finished one it says so.
    """
    from gpt2cli.model.device import choose_device, use_threads
    from gpt2cli.records.shard_set import load_shard_set
    from gpt2cli.training.config import TrainConfig, TrainOptions, named_shape
    from gpt2cli.training.divided import divided
    from gpt2cli.training.initial_weights import find_initial_weights
    from gpt2cli.training.recorded_config import check_recordable
    from gpt2cli.training.rendezvous import joined

    asked = TrainOptions(**options)
    with joined() as ranks:
        branch = config = initial = None
        use_threads(threads)
        with ranks.together():
            if ranks.leader and ranks.world > 1:
                check_outputs(click.get_current_context())
            ranks = divided(ranks, parallel)
            shard_set = load_shard_set(shards)
            own_device = ranks.device(choose_device(device))
            if init_from is not None:
                initial = find_initial_weights(init_from, shard_set, console)
            if branch_from is not None or branch_step is not None:
                directory = Path(output or f"runs/{Path(branch_from or '').name}-at{branch_step}")
                if ranks.leader:
                    branch, config = _resolve_branch(branch_from, branch_step, asked, shard_set)
            else:
                directory = Path(output) if output else Path("runs") / named_shape(asked, initial)[0]
                if ranks.leader:
                    config = _resolve(asked, shard_set, directory, own_device, force, initial, parallel is not None)
            if config is not None:
                check_recordable(config)
        config = TrainConfig(**ranks.from_leader(config.as_record() if config else None))
        if dry_run:
            if ranks.leader:
                _print_plan(config, shard_set, directory, bool(activation_checkpointing))
            return
        summary = _train(config, shard_set, directory, own_device, console, keep=keep, max_seconds=max_time,
                         override=override, force=force, branch=branch, ranks=ranks, initial=initial,
                         recompute=activation_checkpointing)
    if summary.already_done:
        console.note(f"{directory} is already done ({summary.steps} steps); --force would train it anew")
    else:
        console.note(f"done: {summary.steps} steps, validation loss {summary.val_nll:.4f} nats a token, in {directory}")


def _resolve(
    asked: TrainOptions, shard_set: ShardSet, directory: Path, device: Any, force: bool,
    initial: InitialWeights | None, divided: bool,
) -> TrainConfig:
    """Decide every default; what was decided for us is kept from a run that is already there."""
    from dataclasses import replace

    from gpt2cli.model.device import native_bf16
    from gpt2cli.records.packing import packed_context
    from gpt2cli.records.run_directory import is_run, read_run
    from gpt2cli.training.compiling import with_compiling
    from gpt2cli.training.config import resolve
    from gpt2cli.training.recorded_config import recorded_config
    from gpt2cli.training.run_record import check_tokenizer

    kept: str | None = None
    if is_run(directory) and not force:
        found = read_run(directory)
        check_tokenizer(directory, found, shard_set)
        recorded = recorded_config(directory, found)
        if asked.dtype == "auto" and asked.weights == recorded.get("weights", "fp32"):
            asked = replace(asked, dtype=recorded.get("dtype", "auto"))
        if asked.compile == "auto":
            kept = recorded.get("compile", "off")
            asked = replace(asked, compile=kept)
        if asked.micro_batch is None and asked.batch_tokens in (None, recorded.get("batch_tokens")):
            asked = replace(asked, micro_batch=recorded.get("micro_batch"))
    config = resolve(asked, n_vocab=shard_set.n_vocab, train_tokens=shard_set.n_tokens("train"),
                     native_bf16=native_bf16(device), packed_context=packed_context(shard_set.index), initial=initial)
    if divided and kept is not None:  # a part of a model is never compiled, and a run goes on in any division
        return replace(config, compile=kept)
    return with_compiling(config, asked.compile, device, divided)


def _resolve_branch(
    trunk: str | None, step: int | None, asked: TrainOptions, shard_set: ShardSet
) -> tuple[Branch, TrainConfig]:
    """Take every setting from the trunk but the branch's length, evaluations and checkpoints."""
    from gpt2cli.training.branch import branch_config, open_branch

    if trunk is None or step is None:
        raise click.UsageError("--branch-from RUN and --at STEP go together")
    context = click.get_current_context()
    given = sorted(param.opts[0] for param in context.command.params
                   if param.name in {*vars(asked), "init_from"} - _OF_A_BRANCH
                   and context.get_parameter_source(param.name) == click.core.ParameterSource.COMMANDLINE)
    if given:
        raise click.UsageError(f"a branch goes on with the settings of its trunk; leave out {' and '.join(given)}")
    branch, config = open_branch(Path(trunk), step, shard_set)
    explicit = {name: getattr(asked, name) for name in sorted(_OF_A_BRANCH - {"decay_tokens"})
                if context.get_parameter_source(name) != click.core.ParameterSource.DEFAULT}
    return branch, branch_config(config, step, asked.decay_tokens, **explicit)


def _train(
    config: TrainConfig, shard_set: ShardSet, directory: Path, device: Any, console: Console, **how: Any
) -> TrainSummary:
    from gpt2cli.records.jsonl import EndDigest
    from gpt2cli.tokens.vocabulary import gpt2_vocabulary, vocabulary_from_canonical
    from gpt2cli.training.trainer import TrainPlan, train

    vocabulary = (gpt2_vocabulary() if shard_set.vocabulary is None
                  else vocabulary_from_canonical(shard_set.vocabulary, str(shard_set.directory)))
    digest = EndDigest()
    copy = None if sys.stdout.isatty() or not how["ranks"].leader else _copy_to_stdout(digest)
    plan = TrainPlan(config, shard_set, vocabulary, directory, device, copy_metrics=copy, **how)
    with signals.polled():
        summary = train(plan, console)
    if copy is not None and not summary.already_done:
        copy(digest.end_record())
    return summary


def _copy_to_stdout(digest: Any) -> Callable[[bytes], None]:
    """Return a writer to stdout that falls silent when its reader leaves: training goes on without it."""
    gone = False

    def copy(line: bytes) -> None:
        nonlocal gone
        if gone:
            return
        digest.add(line)
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except StdoutGone:
            gone = True
            signals.silence_stdout()

    return copy


def _noise_lines(config: TrainConfig) -> list[tuple[str, str]]:
    from gpt2cli.training.noise_scale import measured_sequences

    if not config.noise_every:
        return []
    sequences = measured_sequences(config)
    share = sequences / config.batch / config.noise_every
    return [("noise", f"measured every {config.noise_every:,} steps by {sequences} sequences that are computed twice: "
                      f"{share:.2%} more work")]


def _print_plan(config: TrainConfig, shard_set: ShardSet, directory: Path, recompute: bool) -> None:
    from gpt2cli.training.checkpointing import checkpoint_path
    from gpt2cli.training.memory_choice import reader_bytes
    from gpt2cli.training.peak_estimate import peak_memory

    shape = config.shape
    memory = peak_memory(config, reader_bytes(shard_set), recompute)
    flops = config.tokens * shape.train_flops_per_token()
    epochs = config.tokens / shard_set.n_tokens("train")
    lines = [
        ("model", f"{config.size}: {shape.n_layer} layers, {shape.n_embd} wide, {shape.n_head} heads, context "
                  f"{shape.n_ctx}, vocabulary {shape.n_vocab:,}"),
        ("parameters", f"{shape.n_params:,} ({shape.n_params_non_embedding:,} without embeddings)"),
        ("tokens", f"{config.tokens:,} in {config.steps:,} steps of {config.batch_tokens:,} ({epochs:.2f} epochs)"),
        ("micro-batch", f"{config.micro_batch} sequences"),
        ("learning rate", f"{config.lr:g} peak, {config.warmup_steps} steps of warm-up, "
                          f"{config.schedule} to {config.lr_floor:g}"),
        ("FLOP", f"{flops:.3e}: {shape.train_flops_per_token():.3e} a token = 6 (12 L d^2 + V d) + 6 L T d; "
                 f"6 N D = {6 * shape.n_params * config.tokens:.3e}"),
        ("memory", f"about {memory.total / 2**30:.2f} GiB at the peak: parameters {memory.parameters / 2**30:.2f}, "
                   f"gradients {memory.gradients / 2**30:.2f}, optimizer {memory.optimizer / 2**30:.2f}, activations "
                   f"{memory.activations / 2**30:.2f}, head {memory.head / 2**30:.2f}, program and data "
                   f"{memory.process / 2**30:.2f}"),
        ("dtype", config.dtype),
        *_noise_lines(config),
        ("writes", f"{directory}/run.json, metrics.jsonl, perf.jsonl, lock, manifest.json"),
        ("", f"{checkpoint_path(directory, config.steps)}/ ({12 * shape.n_params / 2**30:.2f} GiB), and one every "
             f"{config.checkpoint_every} steps"),
    ]
    for name, text in lines:
        click.echo(f"{name:14}{text}")
