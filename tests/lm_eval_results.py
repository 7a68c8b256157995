"""What lm-evaluation-harness says of local task files and a checkpoint, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def lm_eval_results(model: Path, tasks: Sequence[str], task_files: Path, home: Path, bootstrap: int) -> dict[str, Any]:
    """Return simple_evaluate's results, samples included. task_files: a directory; home: an empty one for its cache."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "DISABLE_MULTIPROC"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(home))
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(task_files), include_defaults=False)
        theirs = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=32)
        results = lm_eval.simple_evaluate(model=theirs, tasks=list(tasks), task_manager=manager,
                                          bootstrap_iters=bootstrap, log_samples=True)
    assert results is not None
    return dict(results)
