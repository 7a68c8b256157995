"""Reading runs: which record of each run counts, what is left out, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.scaling.observations import Observations, parse_mapping, read_mapped, read_observations

Write = Callable[..., str]


def run_line(run: str, **changed: Any) -> bytes:
    fields = {
        "run": run,
        "parent_run": None,
        "config": {},
        "seed": 0,
        "n_params": 1000,
        "n_params_non_embedding": 600,
        "n_layer": 1,
        "n_embd": 8,
        "n_head": 1,
        "n_ctx": 8,
        "n_vocab": 300,
        "tokenizer_sha256": "t",
        "data_sha256": "d",
        "versions": {},
    }
    return encode_record("gpt2.run", fields | changed)


def eval_line(run: str, loss: float, **changed: Any) -> bytes:
    fields = {
        "run": run,
        "step": 10,
        "tokens": 5000,
        "flops": 33_000_000,
        "lr_phase": "done",
        "split": "val",
        "nll_nats_per_token": loss,
        "stderr": 0.01,
        "ppl": 2.0,
        "bits_per_byte": 1.0,
        "n_tokens": 9,
        "n_bytes": 30,
        "protocol": {},
        "val_sha256": "v",
    }
    return encode_record("gpt2.eval", fields | changed)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(*lines: bytes, name: str = "metrics.jsonl") -> str:
        (tmp_path / name).write_bytes(b"".join(lines))
        return str(tmp_path / name)

    return save


def read(*files: str, count: str = "total", allow_mixed: bool = False) -> Observations:
    return read_observations(files, count, Silent(), allow_mixed=allow_mixed)


def test_last_decayed_validation_counts_and_the_rest_is_counted(write: Write) -> None:
    seen = read(
        write(
            run_line("a"),
            eval_line("a", 5.0, step=2, lr_phase="warmup"),
            eval_line("a", 4.5, step=5, lr_phase="stable"),
            eval_line("a", 4.0, split="train"),
            eval_line("a", 3.9),
            eval_line("a", 3.5, step=12, tokens=6000),
            run_line("b"),
            eval_line("b", 4.4, lr_phase="decay"),
            eval_line("c", 3.0),
        )
    )
    assert (seen.runs, seen.n.tolist(), seen.d.tolist(), seen.loss.tolist()) == (("a",), [1000], [6000], [3.5])
    assert seen.excluded == {
        "evaluation before the learning rate had decayed": 3,
        "evaluation on split 'train'": 1,
        "evaluation superseded by a later one of its run": 1,
        "evaluation without its gpt2.run record": 1,
        "run without a final evaluation (unfinished?)": 1,
    }


def test_count_chooses_the_parameters_and_flops_are_exact(write: Write) -> None:
    path = write(run_line("a"), eval_line("a", 3.0))
    assert read(path).n.tolist() == [1000]
    assert read(path, count="non-embedding").n.tolist() == [600]
    assert read(path).flops.tolist() == [33_000_000]


def test_branches_share_the_cluster_of_their_trunk(write: Write) -> None:
    seen = read(
        write(run_line("trunk"), eval_line("trunk", 3.0), run_line("alone"), eval_line("alone", 3.0)),
        write(
            run_line("left", parent_run="trunk"),
            eval_line("left", 3.1),
            run_line("leaf", parent_run="left"),
            eval_line("leaf", 3.2),
            run_line("x", parent_run="unread"),
            eval_line("x", 3.1),
            run_line("y", parent_run="unread"),
            eval_line("y", 3.1),
            name="branches.jsonl",
        ),
    )
    cluster = dict(zip(seen.runs, seen.clusters.tolist(), strict=True))
    assert cluster["trunk"] == cluster["left"] == cluster["leaf"]
    assert cluster["x"] == cluster["y"]
    assert len(set(cluster.values())) == 3


@pytest.mark.parametrize(
    ("second", "evaluation", "what"),
    [
        ({"tokenizer_sha256": "other"}, {}, "2 different tokenizers"),
        ({}, {"val_sha256": "w"}, "2 different validation"),
    ],
)
def test_mixtures_are_refused_unless_allowed(
    write: Write, second: dict[str, str], evaluation: dict[str, str], what: str
) -> None:
    path = write(run_line("a"), eval_line("a", 3.0), run_line("b", **second), eval_line("b", 3.1, **evaluation))
    with pytest.raises(BadInput, match=what):
        read(path)
    assert len(read(path, allow_mixed=True).runs) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b'{"text":"hello"}\n'], "no finished run in .*metrics.jsonl; give metrics.jsonl"),
        (
            [run_line("a"), eval_line("a", 3.0, lr_phase="decay")],
            r"left out: evaluation before the learning rate had decayed \(1\)",
        ),
        ([run_line("a"), eval_line("a", -1.0)], "run 'a': an evaluation at step 10"),
        ([run_line("a", n_params="many"), eval_line("a", 3.0)], "run 'a': n_params is no positive number"),
        ([run_line("a", n_params=1e200), eval_line("a", 3.0)], r"n_params is no positive number, or out of range"),
        ([run_line("a", n_params=1e-308), eval_line("a", 3.0)], r"n_params is no positive number, or out of range"),
        ([run_line("a", n_params=10**400), eval_line("a", 3.0)], "line 1: a number with too many digits"),
        ([run_line("a"), eval_line("a", 1e200)], r"whose loss or tokens is no positive number, or out of range"),
        ([run_line("a", parent_run="b"), run_line("b", parent_run="a"), eval_line("a", 3.0)], "its own ancestor"),
        ([b"{\n"], "line 1: not JSON"),
    ],
)
def test_bad_input_is_named(write: Write, lines: list[bytes], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(write(*lines))


MAPPING = {"n": "params", "d": "tokens", "loss": "val_loss"}


def test_csv_and_jsonl_through_a_mapping(write: Write) -> None:
    table = b"\xef\xbb\xbfname;params;tokens;val_loss\r\na;1e6;2e7;4.5\r\nb;2e6;2e7;\r\n\r\na;4e6;2e7;4.1\r\n"
    seen = read_mapped([write(table, name="x.csv")], MAPPING | {"run": "name"}, "total", Silent())
    assert (seen.n.tolist(), seen.loss.tolist(), seen.runs) == ([1e6, 4e6], [4.5, 4.1], ("a", "a"))
    assert seen.excluded == {"row with an empty or non-positive value": 1}
    assert len(set(seen.clusters.tolist())) == 1
    lines = (
        b'{"params":1000000,"tokens":2e7,"val_loss":4.5,"f":1e14}\n\n'
        b'{"params":4e6,"tokens":2e7,"val_loss":4.1,"f":null}\n'
    )
    other = read_mapped([write(lines, name="x.jsonl")], MAPPING | {"flops": "f"}, "total", Silent())
    assert np.array_equal(other.n, seen.n) and np.array_equal(other.loss, seen.loss)
    assert other.flops[0] == 1e14 and np.isnan(other.flops[1])
    assert len(set(other.clusters.tolist())) == 2


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (b"params,tokens,loss\n1,2,3\n", UsageFault, "line 2 has no column 'val_loss'; it has params, tokens, loss"),
        (b"params,tokens,val_loss\n1,2,three\n", BadInput, "line 2: val_loss is 'three', not a number"),
        (b"params,tokens,val_loss\n1,2,nan\n", BadInput, "not a number"),
        (b"params,tokens,val_loss\n1,2e200,3\n", BadInput, r"line 2: tokens is 2e\+200, which is no count"),
        (b"params,tokens,val_loss\n1e-308,2,3\n", BadInput, "line 2: params is 1e-308, which is no count"),
        (b"params,tokens,val_loss,tokens\n1,2,3,4\n", BadInput, "x.csv has two columns 'tokens'; rename or remove one"),
        (b"params,tokens,val_loss\n1,2,3,4\n", BadInput, "line 2 has more fields than the header"),
        (b"params,tokens,val_loss\n1,2,\xff\n", BadInput, "not UTF-8"),
        (b"", BadInput, "is empty"),
        (b"params,tokens,val_loss\n", BadInput, "no finished run"),
    ],
)
def test_bad_tables_are_named(write: Write, text: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_mapped([write(text, name="x.csv")], MAPPING, "total", Silent())


@pytest.mark.parametrize("text", ["n=a,d=b", "n=a,d=b,loss", "n=a,n=b,d=c,loss=d", "size=a,n=a,d=b,loss=c", ""])
def test_bad_mappings_are_usage_faults(text: str) -> None:
    with pytest.raises(UsageFault, match="--map"):
        parse_mapping(text)
