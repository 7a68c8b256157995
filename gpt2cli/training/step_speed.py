"""What gpt2.perf/1 says of a step: its speed, what share of the machine's peak that is, and memory."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from gpt2cli.training.config import TrainConfig
from gpt2cli.training.process_memory import peak_rss_bytes, rss_bytes

_QUICK_STEP, _OLDEST = 0.01, 0.1
"""Seconds. Asking the system takes a tenth of a millisecond: after a quick step an answer this old will do."""


class StepSpeed:
    """Makes the fields of one run's steps, on devices that multiply matrices at the given rate together."""

    def __init__(self, config: TrainConfig, gemm_flops_per_second: float) -> None:
        self._batch_tokens = config.batch_tokens
        self._flops = config.shape.train_flops_per_token()
        self._rate = gemm_flops_per_second
        self._memory: dict[str, int] = {}
        self._read_at = -_OLDEST

    def fields(self, seconds: float) -> dict[str, Any]:
        """Return the fields for a step that took `seconds` and is just over.

        mfu is the FLOP of the model a second (sizes.train_flops_per_token, recomputation not counted) over the rate.
        """
        now = perf_counter()
        if seconds > _QUICK_STEP or now - self._read_at >= _OLDEST:
            rss = rss_bytes()
            self._memory = {**({} if rss is None else {"rss_bytes": rss}), "peak_rss_bytes": peak_rss_bytes()}
            self._read_at = now
        speed = self._batch_tokens / seconds
        return {
            "tokens_per_second": round(speed, 1), "step_seconds": round(seconds, 6),
            "mfu": round(speed * self._flops / self._rate, 4), "gemm_flops_per_second": round(self._rate),
            **self._memory,
        }
