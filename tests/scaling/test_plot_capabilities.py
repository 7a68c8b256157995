"""Evaluations against model size: what becomes a line, its error bars, the published models, what is refused."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import gpt2_here  # noqa: F401

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import encode_record
from gpt2cli.scaling.capabilities import Panel, panels
from gpt2cli.scaling.plot_capabilities import draw_panels
from gpt2cli.scaling.terminal_plot import panel_text

Record = dict[str, Any]
SMALL = 124_439_808


def text(run: str, n_params: float, nll: float, **changes: Any) -> Record:
    return {"schema": "gpt2.eval/1", "run": run, "step": 1, "tokens": 5, "flops": 1, "split": None,
            "n_params": n_params, "nll_nats_per_token": nll, "stderr": 0.01, "ppl": math.exp(nll),
            "word_ppl": math.exp(1.25 * nll), "bits_per_byte": nll / 4 / math.log(2),
            "n_tokens": 1000, "n_words": 800, "n_bytes": 4000,
            "protocol": {"name": "sliding", "stride": 32}, "text_sha256": "ab" * 32, **changes}


def task(run: str, n_params: float, acc: float, name: str = "arc", **changes: Any) -> Record:
    return {"schema": "gpt2.task/1", "run": run, "step": 1, "tokens": 5, "flops": 1, "n_params": n_params,
            "task": name, "type": "multiple_choice", "num_fewshot": 0, "n_items": 9, "protocol": {},
            "data_sha256": name,
            "metrics": {"acc": {"value": acc, "stderr": 0.02}, "acc_norm": {"value": acc + 0.1, "stderr": None}},
            **changes}


def write(path: Path, records: list[Record]) -> Path:
    path.write_bytes(b"".join(encode_record(record["schema"].rpartition("/")[0],
                                            {k: v for k, v in record.items() if k != "schema"}) for record in records))
    return path


def picture(found: list[Panel], kind: str = "svg", **references: float) -> bytes:
    stream = io.BytesIO()
    draw_panels(found, stream, kind, references)
    return stream.getvalue()


def test_a_line_for_each_task_and_a_panel_for_each_metric() -> None:
    found = panels([], [task("b", 4e6, 0.5), task("a", 1e6, 0.4), task("a", 1e6, 0.3, "piqa"),
                        task("a", 1e6, 0.45, num_fewshot=5)], {})
    assert [(panel.metric, [series.label for series in panel.series]) for panel in found] == [
        ("acc", ["arc", "arc, 5-shot", "piqa"]), ("acc_norm", ["arc", "arc, 5-shot", "piqa"])]
    assert [(point.n_params, point.value, point.stderr) for point in found[0].series[0].line()] == [
        (1e6, 0.4, 0.02), (4e6, 0.5, 0.02)]
    assert found[1].series[0].line()[0].stderr is None
    assert (found[0].title, found[1].title) == ("accuracy (share of items)", "acc_norm (share of items)")
    assert not found[0].logarithmic and panels([text("a", 1e6, 3.0)], [], {})[0].logarithmic


def test_clean_scores_are_lines_of_their_own() -> None:
    """Of a preset or a task the two would else have one name; nothing left out gives them one text, too."""
    clean = {"protocol": {"name": "sliding", "stride": 32, "exclude_overlap": {"ngram": 8}}}
    (panel,) = panels([text("a", 1e6, 3.0), text("a", 1e6, 3.1, **clean)], [], {})
    assert [(series.label, [point.value for point in series.points]) for series in panel.series] == [
        ("text abababab", [3.0]), ("text abababab, without overlap", [3.1])]
    (panel, _) = panels([], [task("a", 1e6, 0.4), task("a", 1e6, 0.3, **clean)], {})
    assert [series.label for series in panel.series] == ["arc", "arc, without overlap"]


@pytest.mark.parametrize("metric", ["nll_nats_per_token", "ppl", "word_ppl", "bits_per_byte"])
def test_the_error_of_every_measure_is_that_of_a_small_change_of_the_loss(metric: str) -> None:
    low, middle, high = (text("a", 1e6, nll)[metric] for nll in (3 - 1e-4, 3, 3 + 1e-4))
    (panel,) = panels([text("a", 1e6, 3.0)], [], {}, [metric])
    (point,) = panel.series[0].points
    assert point.value == middle and point.stderr == pytest.approx((high - low) / 2e-4 * 0.01, rel=1e-6)


def test_published_models_stand_at_their_true_sizes_in_the_metrics_unit() -> None:
    published = {"117M": 29.41, "1542M": 18.34, "made up": 3.0}
    preset = {"metric": "word_ppl", "published": published, "protocol": {"name": "paper-x"}}
    (panel,) = panels([text("a", 1e6, 3.0, **preset)], [], {})
    assert panel.metric == "word_ppl" and panel.series[0].label == "paper-x"
    assert panel.series[0].published == [("117M", SMALL, 29.41), ("1542M", 1_557_611_200, 18.34)]
    rows = [{"metric": "acc", "unit": "accuracy, %", "paper": {"117M": 87.65}}]
    acc, norm = panels([], [task("a", 1e6, 0.5, published=rows)], {})
    assert acc.series[0].published == [("117M", SMALL, pytest.approx(0.8765))] and norm.series[0].published == []
    assert picture([acc]).count(b"stroke-dasharray") > picture([norm]).count(b"stroke-dasharray")


def test_checkpoints_protocols_and_repetitions() -> None:
    """The most trained of a size is on the line; another protocol is another line; a record twice is one point."""
    records = [text("a", 1e6, 3.0), text("a", 1e6, 2.8, tokens=50), text("a", 1e6, 2.8, tokens=50),
               text("a", 1e6, 2.5, protocol={"name": "sliding", "stride": 1})]
    (panel,) = panels(records, [], {})
    assert [(series.label, len(series.points)) for series in panel.series] == [("text abababab (1)", 1),
                                                                               ("text abababab (2)", 2)]
    assert panel.series[1].line()[0].value == 2.8


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(BadInput, match="how many parameters"):
        panels([text("a", None, 3.0)], [], {})  # type: ignore[arg-type]
    with pytest.raises(UsageFault, match="measures f1; there is bits_per_byte, nll_nats_per_token, ppl, word_ppl"):
        panels([text("a", 1e6, 3.0)], [], {}, ["f1"])
    with pytest.raises(UsageFault, match="no evaluation measures f1; there is acc, acc_norm"):
        panels([], [task("a", 1e6, 0.5)], {}, ["f1"])
    many = {f"m{i}": {"value": 0.5} for i in range(7)}
    with pytest.raises(UsageFault, match=r"7 metrics .* choose up to 6 by --metric"):
        panels([], [task("a", 1e6, 0.5, metrics=many)], {})
    odd = {"acc": {"value": True}, "x": {"value": "1"}, "y": 3, "z": {"value": 10**400}}
    with pytest.raises(BadInput):
        panels([], [task("a", 1e6, 0.5, metrics=odd)], {})


def test_equal_records_give_equal_bytes_and_other_errors_another_picture() -> None:
    found = panels([], [task("a", 1e6, 0.4), task("b", 4e6, 0.5)], {})
    for kind, magic in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        first = picture(found, kind, chance=0.25)
        assert first.startswith(magic) and picture(found, kind, chance=0.25) == first
    wider = task("b", 4e6, 0.5, metrics={"acc": {"value": 0.5, "stderr": 0.04}, "acc_norm": {"value": 0.6}})
    assert picture(found) != picture(panels([], [task("a", 1e6, 0.4), wider], {}))


def test_text_of_a_panel() -> None:
    rows = [{"metric": "acc", "unit": "accuracy, %", "paper": {"117M": 80.0}}]
    acc, _ = panels([], [task("a", 1e6, 0.4, published=rows), task("b", 1e8, 0.6), task("a", 1e6, 0.3, "piqa")], {})
    drawn = panel_text(acc, {"chance": 0.25}, 80, 24)
    assert "a  arc: 1M 0.4 +- 0.02, 100M 0.6 +- 0.02" in drawn and "b  piqa: 1M 0.3 +- 0.02" in drawn
    assert "+  arc, GPT-2 paper: 117M 0.8" in drawn and "- -  chance 0.25" in drawn
    plot = [line[9:] for line in drawn.splitlines() if "│" in line or "┤" in line]
    assert "".join(plot).count("a") == 2 and "".join(plot).count("+") == 1
    rows_of = {letter: next(i for i, line in enumerate(plot) if letter in line) for letter in "+ab"}
    assert rows_of["+"] < rows_of["a"] < rows_of["b"]


def test_the_command(tmp_path: Path, gpt2_here: Callable) -> None:  # noqa: F811
    tasks = write(tmp_path / "tasks.jsonl", [task("a", 1e6, 0.4), task("b", 4e6, 0.5)])
    texts = write(tmp_path / "texts.jsonl", [text("a", 1e6, 3.0), text("b", 4e6, 2.5)])
    run = {"schema": "gpt2.run/1", "run": "r", "n_params": 2e6, **dict.fromkeys(
        ("config", "seed", "n_params_non_embedding", "n_layer", "n_embd", "n_head", "n_ctx", "n_vocab",
         "tokenizer_sha256", "data_sha256", "versions"))}
    step = {"schema": "gpt2.step/1", "run": "r", "step": 1, "tokens": 5, "flops": 1, "loss_nats": 4.0, "lr": 1.0,
            "lr_phase": "done", "grad_norm": 1.0}
    validation = {name: value for name, value in text("r", 0, 3.5, split="val").items() if name != "n_params"}
    metrics = write(tmp_path / "metrics.jsonl", [run, step, {**validation, "nll_nats_per_token": 9.0}, validation])
    every = gpt2_here("plot", tasks, texts, check=True).stdout.decode()
    assert [title for title in ("accuracy (share", "acc_norm (share", "loss (nats") if title not in every] == []
    result = gpt2_here("plot", tasks, texts, "--metric", "acc", "--metric", "bits_per_byte", check=True)
    assert "bits per byte" in result.stdout.decode() and "loss (nats" not in result.stdout.decode()
    assert "4M 2.5 +- 0.01" in gpt2_here("plot", texts, check=True).stdout.decode()
    assert "loss (nats per token)\n" in gpt2_here("plot", metrics, check=True).stdout.decode()
    last = gpt2_here("plot", "--x", "params", metrics, texts, check=True).stdout.decode()
    assert "val: 2M 3.5 +- 0.01\n" in last and "text abababab: 1M 3 +- 0.01, 4M 2.5" in last
    piped = gpt2_here("plot", "-o", tmp_path / "p.svg", input=tasks.read_bytes(), check=True)
    assert piped.stdout == b"" and (tmp_path / "p.svg").read_bytes().startswith(b"<?xml")
    for arguments, status, said in (
        ((metrics, tasks), 2, "say --x params"), ((tasks, "--metric", "f1"), 2, "no evaluation measures f1"),
        ((tasks, "--reference", "chance=0.25"), 2, "--reference needs one metric's axis"),
        ((texts, "--x", "tokens"), 65, "nothing can be drawn"),
        ((tasks, "--metric", "acc", "--x", "flops"), 2, "not flops"),
    ):
        result = gpt2_here("plot", *arguments)
        assert (result.returncode, result.stdout) == (status, b"") and said in result.stderr.decode(), arguments
