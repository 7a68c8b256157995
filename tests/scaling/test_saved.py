from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import gpt2_here as gpt2_here


def test_a_fit_of_a_law_that_is_not_known_is_refused(
    gpt2_here: Callable[..., subprocess.CompletedProcess[bytes]], ladder_metrics: Path, tmp_path: Path
) -> None:
    """As a newer version may write it."""
    fit = json.loads(gpt2_here("fit-scaling", ladder_metrics, "--bootstrap", 0, check=True).stdout.splitlines()[0])
    path = tmp_path / "fit.jsonl"
    path.write_text(json.dumps({**fit, "law": "a newer one"}) + "\n")
    for words in (("plot", path), ("fit-scaling", "predict", "--fit", path, "--n", "1M", "--d", "10M")):
        done = gpt2_here(*words)
        assert done.returncode == 65 and b"a fit of law 'a newer one', which this version does not know" in done.stderr


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [{"n": 1e-308}, {"d": 1e-308, "n": 1e-308}, {"loss_nats": 1e300}, {"cluster": 1e300},
                                    {"cluster": -1}, {"n": -1.0}])
def test_observations_that_no_run_can_have_are_refused(
    gpt2_here: Callable[..., subprocess.CompletedProcess[bytes]], ladder_metrics: Path, tmp_path: Path,
    change: dict[str, float],
) -> None:
    fit = json.loads(gpt2_here("fit-scaling", ladder_metrics, "--bootstrap", 5, check=True).stdout.splitlines()[0])
    fit["observations"][1] |= change
    path = tmp_path / "fit.jsonl"
    path.write_text(json.dumps(fit) + "\n")
    done = gpt2_here("fit-scaling", "predict", "--fit", path, "--n", "1M", "--d", "10M")
    assert done.returncode == 65 and b"observations are" in done.stderr and done.stderr.count(b"\n") == 1
