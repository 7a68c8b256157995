"""A ladder as words: the options of its runs, and the variables that demo/ladder/rungs.mk makes it by."""

from __future__ import annotations

from collections.abc import Iterator

from gpt2cli.scaling.ladder import BATCH_TOKENS, EVAL_TOKENS, Ladder, Rung, branch_step
from gpt2cli.sizes import ModelShape

WARMUP_STEPS = 100
_NEVER = 1_000_000_000


def train_words(shape: ModelShape) -> list[str]:
    """Return the options of gpt2 train that give a ladder's model its network and its batch, on one thread."""
    network = ["--layers", shape.n_layer, "--heads", shape.n_head, "--embd", shape.n_embd, "--context", shape.n_ctx]
    return [str(word) for word in (*network, "--batch-tokens", BATCH_TOKENS, "--dtype", "fp32", "--threads", 1)]


def make_words(ladder: Ladder) -> str:
    """Return the ladder as make variables, each rung's options under its name; the same words for the same ladder."""
    return "".join(f"{name} := {value}\n" for name, value in _variables(ladder))


def _variables(ladder: Ladder) -> Iterator[tuple[str, str]]:
    trunks = [rung for rung in ladder.rungs if rung.steps is None]
    branching = {rung.network for rung in trunks}
    branches = [rung for rung in ladder.rungs if rung.steps is not None and rung.network in branching]
    alone = [rung for rung in ladder.rungs if rung.network not in branching]
    yield "RUNS", " ".join(rung.name for rung in alone)
    yield "TRUNKS", " ".join(rung.name for rung in trunks)
    yield "BRANCHES", " ".join(rung.name for rung in branches)
    yield "HELD_OUT", " ".join(rung.name for rung in ladder.rungs if rung.held_out)
    for rung in ladder.rungs:
        yield f"FLAGS_{rung.name}", " ".join(rung_words(rung, ladder))


def rung_words(rung: Rung, ladder: Ladder) -> list[str]:
    """Return the options of gpt2 train for one run, but its shards, its output and a branch's trunk."""
    scoring = ["--eval-every", str(_NEVER)]
    once = ["--eval-tokens", str(EVAL_TOKENS), *scoring, "--checkpoint-every", str(_NEVER)]
    start = [*train_words(rung.shape), "--lr", f"{rung.lr:g}", "--warmup", str(WARMUP_STEPS), "--schedule", "wsd"]
    if rung.steps is None:
        every = branch_step(ladder.steps[0])
        # every branch begins at a checkpoint; the trunk's own loss is nobody's business
        return [*start, "--steps", str(ladder.trunk_steps), "--decay-tokens", "0", "--eval-tokens", str(BATCH_TOKENS),
                *scoring, "--checkpoint-every", str(every), "--keep", str(ladder.trunk_steps // every + 1)]  # fmt: skip
    decay = str((rung.steps - branch_step(rung.steps)) * BATCH_TOKENS)
    if any(other.steps is None and other.network == rung.network for other in ladder.rungs):
        return ["--at", str(branch_step(rung.steps)), "--decay-tokens", decay, "--threads", "1", *once]
    return [*start, "--steps", str(rung.steps), "--decay-tokens", decay, *once]
