"""What gpt2.perf/1 says of a step: its speed, what share of the machine's peak that is, and memory."""

from __future__ import annotations

from typing import Any

from gpt2cli.training.config import TrainConfig
from gpt2cli.training.process_memory import peak_rss_bytes, rss_bytes


def speed_fields(config: TrainConfig, seconds: float, gemm_flops_per_second: float) -> dict[str, Any]:
    """Return the fields for a step that took `seconds`, on devices that multiply matrices at the given rate together.

    mfu is the FLOP of the model a second (sizes.train_flops_per_token, recomputation not counted) over that rate.
    """
    speed = config.batch_tokens / seconds
    rss = rss_bytes()
    return {
        "tokens_per_second": round(speed, 1), "step_seconds": round(seconds, 6),
        "mfu": round(speed * config.shape.train_flops_per_token() / gemm_flops_per_second, 4),
        "gemm_flops_per_second": round(gemm_flops_per_second),
        **({} if rss is None else {"rss_bytes": rss}), "peak_rss_bytes": peak_rss_bytes(),
    }
