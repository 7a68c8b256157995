"""The record of a run, and whether the run that is there is the one that is asked for."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli.errors import UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.records.provenance import versions
from gpt2cli.records.run_directory import is_run, read_run, write_run
from gpt2cli.records.shard_set import ShardSet
from gpt2cli.tokens.order import ONE_PERMUTATION
from gpt2cli.training.config import TrainConfig

if TYPE_CHECKING:
    from gpt2cli.training.branch import Branch

_OLDER = {"data_order": ONE_PERMUTATION, "decay_steps": None,
          **{field.name: field.default for field in fields(TrainConfig) if field.default is not MISSING}}
"""What run.json meant where it says nothing: fields that came later."""


def agree(directory: Path, fresh: Record, shards: ShardSet, override: bool) -> Record:
    """Return the run record of `directory`, new or found; UsageFault when a found one differs, unless `override`."""
    if not is_run(directory):
        if any(path.name != "lock" for path in directory.iterdir()):
            raise UsageFault(f"{directory} is not empty and holds no run; choose another -o")
        write_run(directory, fresh)
        return fresh
    found = read_run(directory)
    found.pop("schema")
    check_tokenizer(directory, found, shards)
    there = {**_OLDER, **found["config"]}
    differences = [f"{name}: {there.get(name)!r} there, {value!r} asked"
                   for name, value in fresh["config"].items() if there.get(name) != value]
    differences += [f"{name}: {found.get(name)!r} there, {fresh[name]!r} asked"
                    for name in ("parent_run", "parent_step") if found.get(name) != fresh[name]]
    if (data := str(found.get("data_sha256"))) != fresh["data_sha256"]:
        differences.append(f"data_sha256: {data[:12]} there, {fresh['data_sha256'][:12]} asked")
    if not differences:
        return found
    shape_differs = any(found["config"].get(name) != fresh["config"][name]
                        for name in ("n_layer", "n_head", "n_embd", "n_ctx", "n_vocab"))
    if not override or shape_differs:
        hint = "--force starts anew" if shape_differs else "--override goes on with the new ones, --force starts anew"
        raise UsageFault(f"{directory} holds another run ({'; '.join(differences)}); choose another -o; {hint}")
    (directory / "manifest.json").unlink(missing_ok=True)
    fresh["run"] = found["run"]
    write_run(directory, fresh)
    return fresh


def check_tokenizer(directory: Path, found: Record, shards: ShardSet) -> None:
    """Raise UsageFault when the run record `found` in `directory` is of another vocabulary than `shards`."""
    theirs, ours = str(found.get("tokenizer_sha256")), shards.tokenizer_sha256
    if theirs != ours:
        raise UsageFault(
            f"{directory} holds a run whose tokenizer ({found.get('n_vocab')} ids, sha256 {theirs[:12]}) is not "
            f"that of {shards.directory} ({shards.n_vocab} ids, sha256 {ours[:12]}): its ids would change their "
            "meaning; give it shards of its own tokenizer, or choose another -o; --force starts anew")


def run_record(config: TrainConfig, shards: ShardSet, branch: Branch | None = None) -> Record:
    """Return the fields of gpt2.run/1 for a configuration on a shard set, gone on with from `branch`, None: begun."""
    shape = config.shape
    parent = (branch.parent_run, branch.parent_step) if branch else (None, None)
    return {
        "run": config.run_name(shards.data_sha256, *parent), "parent_run": parent[0], "parent_step": parent[1],
        "config": config.as_record(), "seed": config.seed,
        "n_params": shape.n_params, "n_params_non_embedding": shape.n_params_non_embedding,
        "n_layer": shape.n_layer, "n_embd": shape.n_embd, "n_head": shape.n_head, "n_ctx": shape.n_ctx,
        "n_vocab": shape.n_vocab, "flops_per_token": shape.train_flops_per_token(),
        "flops_form": "6 (12 L d^2 + V d) + 6 L T d",
        "tokenizer_sha256": shards.tokenizer_sha256, "data_sha256": shards.data_sha256,
        "train_tokens": shards.n_tokens("train"),
        "versions": versions("torch", "numpy", "tiktoken"),
    }
