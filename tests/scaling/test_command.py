"""gpt2 fit-scaling and gpt2 plot from outside: records on stdout, tables on stderr, statuses, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2cli.reporter import Silent
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.observations import read_observations

Gpt2 = Callable[..., Any]


def records(stdout: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert lines.pop()["schema"] == "gpt2.end/1"
    return lines


def table(path: Path, sizes: tuple[float, ...], lengths: tuple[float, ...]) -> Path:
    law = published("besiroglu").law
    rows = [f"{n:.0f},{d:.0f},{law.loss(n, d)!r}" for n in sizes for d in lengths]
    path.write_text("params,tokens,val_loss\n" + "\n".join(rows).replace("np.float64(", "").replace(")", "") + "\n")
    return path


MAP = ("--map", "n=params,d=tokens,loss=val_loss")


@pytest.fixture
def fitted(gpt2: Gpt2, ladder_metrics: Path, tmp_path: Path) -> Path:
    path = tmp_path / "fit.jsonl"
    done = gpt2("fit-scaling", ladder_metrics, "--count", "non-embedding", "--flops", "1e19", "-o", path, check=True)
    assert done.stdout == b""
    return path


def test_fit_of_a_ladder_finds_the_law_it_was_made_by(gpt2: Gpt2, ladder_metrics: Path) -> None:
    done = gpt2("fit-scaling", ladder_metrics, "--count", "non-embedding", "--flops", "1e19", check=True)
    (fit,) = records(done.stdout)
    assert fit["schema"] == "gpt2.fit/1"
    expected = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    assert fit["parameters"] == pytest.approx(expected, rel=1e-6)
    for name, value in expected.items():
        low, high = fit["intervals"][name]
        assert low * (1 - 1e-6) <= value <= high * (1 + 1e-6)
    assert (fit["n_observations"], fit["excluded"], fit["warnings"]) == (12, {}, [])
    (best,) = fit["allocations"]
    law = published("hoffmann").law
    assert best["n_opt"] == pytest.approx(law.allocate(1e19).n_opt, rel=1e-6)  # type: ignore[union-attr]
    words = done.stderr.decode()
    assert "L = E + A N^-alpha + B D^-beta   (12 runs, N: non-embedding parameters)" in words
    assert "Best use of a budget (C = 6 N D)" in words and "condition number" in words


def test_stdin_order_of_runs_and_the_verb_do_not_matter(gpt2: Gpt2, ladder_metrics: Path) -> None:
    words, lines = ("-q", "--count", "non-embedding"), ladder_metrics.read_bytes().splitlines(keepends=True)
    straight = gpt2("fit-scaling", *words, input=b"".join(lines), check=True)
    shuffled = gpt2("fit-scaling", *words, "-", input=b"".join(reversed(lines)), check=True)
    verb = gpt2("fit-scaling", "fit", *words, ladder_metrics, check=True)
    assert straight.stdout == shuffled.stdout == verb.stdout
    assert verb.stderr == b""
    assert (
        straight.stderr == b"gpt2 fit-scaling: warning: standard input has no end record: it may have been cut short\n"
    )


def test_saved_fit_answers_other_questions_with_the_same_intervals(gpt2: Gpt2, fitted: Path) -> None:
    fit = json.loads(fitted.read_text())
    (plan,) = records(gpt2("fit-scaling", "optimal", "--fit", fitted, "--flops", "1e19", check=True).stdout)
    for name, value in fit["allocations"][0].items():
        assert plan[name] == pytest.approx(value, rel=1e-6), name
    done = gpt2("fit-scaling", "predict", "--fit", fitted, "--n", "16M", "--d", "400M", check=True)
    (prediction,) = records(done.stdout)
    seen = [row["loss_nats"] for row in fit["observations"] if (row["n"], row["d"]) == (16e6, 4e8)]
    assert prediction["loss_nats"] == pytest.approx(seen[0], rel=1e-6)
    low, high = prediction["loss_nats_interval"]
    assert low - 1e-6 <= seen[0] <= high + 1e-6


def test_optimal_by_published_laws(gpt2: Gpt2) -> None:
    for name, n in (("hoffmann", "32.2B"), ("hoffmann-unrounded", "40.4B"), ("besiroglu", "72.2B")):
        done = gpt2("fit-scaling", "optimal", "--law", name, "--flops", "5.76e23", check=True)
        (plan,) = records(done.stdout)
        assert (plan["schema"], plan["law"], plan["flops_per_nd"]) == ("gpt2.plan/1", name, 6.0)
        assert f"5.76e+23   {n}" in done.stderr.decode()


def test_predictions_come_in_pairs(gpt2: Gpt2) -> None:
    words = ("fit-scaling", "predict", "--law", "kaplan-t2", "--n", "175B", "--d", "300B", "--n", "1M", "--d", "1M")
    first, second = records(gpt2(*words, check=True).stdout)
    assert first["loss_nats"] == pytest.approx(1.661, abs=6e-4)
    assert (second["n"], second["d"], second["flops"]) == (1e6, 1e6, 6e12)
    assert gpt2(*words[:-2]).returncode == 2


@pytest.mark.parametrize(
    ("sizes", "lengths", "says"),
    [((1e8,), (1e9, 2e9, 4e9, 8e9, 3e10), "only one model size"), ((1e8, 4e8), (1e9,) * 3, "only two model sizes")],
)
def test_unidentified_is_65_and_a_run_to_add(
    gpt2: Gpt2, tmp_path: Path, sizes: tuple[float, ...], lengths: tuple[float, ...], says: str
) -> None:
    path = table(tmp_path / "runs.csv", sizes, lengths)
    refused = gpt2("fit-scaling", path, *MAP)
    assert (refused.returncode, refused.stdout) == (65, b"")
    assert refused.stderr.decode().count("\n") == 1
    assert says in refused.stderr.decode() and "add runs of at least" in refused.stderr.decode()
    shown = gpt2("fit-scaling", path, *MAP, "--allow-unidentified", check=True)
    (fit,) = records(shown.stdout)
    assert fit["warnings"][0].startswith("NOT IDENTIFIED: ")
    assert "warning: NOT IDENTIFIED" in shown.stderr.decode()


def test_options_of_the_fit_are_in_its_record(gpt2: Gpt2, tmp_path: Path) -> None:
    path = table(tmp_path / "runs.csv", (1e8, 4e8, 1.6e9, 6.4e9), (1e9, 1e10, 1e11))
    base = ("fit-scaling", "-q", path, *MAP)
    (fit,) = records(gpt2(*base, "--bootstrap", 50, "--seed", 7, "--delta", 0, check=True).stdout)
    assert (fit["bootstrap"]["drawn"], fit["bootstrap"]["seed"], fit["objective"]["delta"]) == (50, 7, 0.0)
    (plain,) = records(gpt2(*base, "--bootstrap", 0, check=True).stdout)
    assert set(plain["intervals"].values()) == {None}
    assert plain["allocations"][0]["flops"] == pytest.approx(10 * 6 * 6.4e9 * 1e11)
    (two,) = records(gpt2(*base, "--flops", "1e22", "--flops", "3e22", check=True).stdout)
    assert [best["flops"] for best in two["allocations"]] == [1e22, 3e22]


def test_mixed_tokenizers_need_a_flag(gpt2: Gpt2, ladder_metrics: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "metrics.jsonl"
    mixed.write_bytes(ladder_metrics.read_bytes().replace(b'"tokenizer_sha256":"0', b'"tokenizer_sha256":"1', 3))
    refused = gpt2("fit-scaling", mixed)
    assert refused.returncode == 65 and b"2 different tokenizers" in refused.stderr
    allowed = gpt2("fit-scaling", mixed, "--allow-mixed", check=True)
    assert b"warning: 2 different tokenizers are mixed" in allowed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("optimal", "--flops", "1e20"), "either --law NAME or --fit FILE"),
        (("optimal", "--law", "hofmann", "--flops", "1e20"), "there are hoffmann"),
        (("optimal", "--law", "hoffmann"), "--flops"),
        (("x.csv", "--map", "n=a"), "names no column for d and loss"),
        (("x.csv", "--plot", "x.pdf"), ".png or .svg"),
        (("--delta", "-1"), "--delta"),
    ],
)
def test_misuse(gpt2: Gpt2, arguments: tuple[str, ...], message: str) -> None:
    done = gpt2("fit-scaling", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode()


def test_damaged_fit_is_65(gpt2: Gpt2, fitted: Path, tmp_path: Path) -> None:
    fit = json.loads(fitted.read_text())
    for name, change in (("parameters", {"E": 1}), ("observations", [{"n": 1}]), ("law", "made-up")):
        (tmp_path / "bad.jsonl").write_text(json.dumps({**fit, name: change}) + "\n")
        done = gpt2("fit-scaling", "optimal", "--fit", tmp_path / "bad.jsonl", "--flops", "1e20")
        assert (done.returncode, done.stdout) == (65, b"")
        assert done.stderr.count(b"\n") == 1 and b"bad.jsonl" in done.stderr


@pytest.mark.slow
def test_outputs_are_not_replaced_unasked_and_appear_whole(gpt2: Gpt2, ladder_metrics: Path, tmp_path: Path) -> None:
    words = ("fit-scaling", ladder_metrics, "-o", tmp_path / "fit.jsonl", "--plot", tmp_path / "fit.svg")
    gpt2(*words, check=True)
    picture = (tmp_path / "fit.svg").read_bytes()
    refused = gpt2(*words)
    assert refused.returncode == 2 and b"--force" in refused.stderr
    gpt2(*words, "--force", check=True)
    assert (tmp_path / "fit.svg").read_bytes() == picture
    assert {path.name for path in tmp_path.iterdir()} == {"fit.jsonl", "fit.svg"}
    again = tmp_path / "again.svg"
    gpt2("plot", tmp_path / "fit.jsonl", "-o", again, check=True)
    assert again.read_bytes() == picture


def test_plot_of_a_real_run(gpt2: Gpt2, tiny_run: Path, tmp_path: Path) -> None:
    shown = gpt2("plot", tiny_run, "--reference", "unigram=5.9", "--x", "steps", check=True)
    words = shown.stdout.decode()
    assert "loss (nats per token)" in words and "validation loss " in words and "unigram 5.9" in words
    gpt2("plot", tiny_run, "-o", tmp_path / "run.png", check=True)
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert gpt2("plot", tiny_run, "-o", tmp_path / "run.png").returncode == 2


def test_a_real_run_says_its_steps_and_its_unique_tokens(tiny_run: Path, shard_directory: Path) -> None:
    seen = read_observations([str(tiny_run / "metrics.jsonl")], "total", Silent())
    index = json.loads((shard_directory / "index.json").read_text())
    run = json.loads((tiny_run / "run.json").read_text())
    train = sum(entry["tokens"] for entry in index["files"] if entry["split"] == "train")
    assert seen.unique.tolist() == [train] == [run["train_tokens"]]
    assert seen.steps.tolist() == [run["config"]["steps"]]


def test_a_real_run_is_an_observation(gpt2: Gpt2, tiny_run: Path) -> None:
    done = gpt2("fit-scaling", tiny_run / "metrics.jsonl")
    assert done.returncode == 65
    assert b"this one run does not identify a scaling law" in done.stderr


def test_plot_without_matplotlib_says_how_to_get_it(gpt2: Gpt2, fitted: Path, tmp_path: Path) -> None:
    sitecustomize = tmp_path / "site" / "sitecustomize.py"
    sitecustomize.parent.mkdir()
    sitecustomize.write_text("import sys\nsys.modules['matplotlib'] = None\n")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{sitecustomize.parent}:{root}"}
    done = subprocess.run(
        [sys.executable, "-m", "gpt2cli", "plot", str(fitted), "-o", str(tmp_path / "x.png")],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"pip install 'gpt2cli[plot]'" in done.stderr
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("--reference", "5.9"), 2), (("--reference", "a=b"), 2), (("-o", "x.gif"), 2), (("--x", "hours"), 2)],
)
def test_misuse_of_plot(gpt2: Gpt2, ladder_metrics: Path, arguments: tuple[str, ...], status: int) -> None:
    assert gpt2("plot", ladder_metrics, *arguments).returncode == status


def test_metrics_and_fits_are_not_drawn_together(gpt2: Gpt2, ladder_metrics: Path, fitted: Path) -> None:
    done = gpt2("plot", ladder_metrics, fitted)
    assert done.returncode == 2 and b"both metrics and fits" in done.stderr


def test_forms_of_law_from_outside(gpt2: Gpt2, tmp_path: Path) -> None:
    law = published("kaplan-t2").law
    rows = [(n, d, float(law.loss(n, d))) for n in (1e6, 4e6, 1.6e7, 6.4e7) for d in (2e7, 1e8, 5e8, 2.5e9)]
    path = tmp_path / "runs.csv"
    text = "params,tokens,val_loss,steps\n" + "".join(
        f"{n:.0f},{d:.0f},{loss!r},{d / 1e5:.0f}\n" for n, d, loss in rows
    )
    path.write_text(text)
    base = ("fit-scaling", path, "--bootstrap", 20)
    done = gpt2(*base, *MAP, "--law", "auto", "-o", tmp_path / "fit.jsonl", check=True)
    fit = json.loads((tmp_path / "fit.jsonl").read_text())
    assert fit["law"] == "kaplan-nd"
    expected = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    assert fit["parameters"] == pytest.approx(expected, rel=1e-4)
    assert fit["diagnosis"]["rolling_origin"]["rms_log_error"] < 1e-6
    words = done.stderr.decode()
    for text in ("Forms by their error on runs held out", "chosen", "rolling origin", "influential runs"):
        assert text in words
    answer = gpt2("fit-scaling", "predict", "--fit", tmp_path / "fit.jsonl", "--n", "175B", "--d", "300B", check=True)
    assert records(answer.stdout)[0]["loss_nats"] == pytest.approx(1.661, abs=1e-3)
    mapped = ("--map", MAP[1] + ",steps=steps", "--law", "kaplan-ns", "--allow-unidentified")
    plain, other = (
        records(gpt2(*base, *mapped, *more, check=True).stdout)[0] for more in ((), ("--critical-batch", "1e6,.3"))
    )
    assert (plain["setting"]["B_star"], other["setting"]["B_star"], other["setting"]["alpha_B"]) == (2.1e8, 1e6, 0.3)
    assert plain["parameters"] != other["parameters"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--law", "kaplan"), 2, "kaplan-nd"),
        (("--law", "kaplan-ns", "--critical-batch", "2e8"), 2, "two positive numbers"),
        (("--law", "kaplan-ns", "--critical-batch", "0,nan"), 2, "two positive numbers"),
        (("--law", "data-constrained"), 65, "give --unique"),
        (("--law", "data-constrained", "--unique", "10T"), 65, "no run repeats its data"),
        (("--law", "kaplan-n-floor", "--unique", "0"), 2, "--unique"),
    ],
)
def test_misuse_of_forms(
    gpt2: Gpt2, ladder_metrics: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = gpt2("fit-scaling", ladder_metrics, *arguments)
    assert (done.returncode, done.stdout) == (status, b"")
    assert message in done.stderr.decode()


def test_undecayed_evaluations_count_only_when_asked(gpt2: Gpt2, ladder_metrics: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in ladder_metrics.read_text().splitlines()]
    early = [
        {**line, "lr_phase": "stable", "step": line["step"] // 2, "tokens": line["tokens"] // 2,
         "flops": line["flops"] / 2, "nll_nats_per_token": line["nll_nats_per_token"] * 1.02}
        for line in lines if line["schema"] == "gpt2.eval/1"
    ]  # fmt: skip
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*early, *lines] if line["schema"] != "gpt2.end/1"))
    words = ("fit-scaling", path, "--bootstrap", 20, "--count", "non-embedding")
    (plain,) = records(gpt2(*words, check=True).stdout)
    assert plain["n_observations"] == 12
    assert plain["excluded"]["evaluation before the learning rate had decayed"] == 12
    done = gpt2(*words, "--allow-undecayed", "--allow-unidentified", check=True)
    (every,) = records(done.stdout)
    assert (every["n_observations"], every["bootstrap"]["clusters"]) == (24, 12)
    assert b"warning: evaluations before the learning rate had decayed count too" in done.stderr
