"""What a run writes down as it goes: metrics.jsonl, the same bytes every time, and perf.jsonl, which has the clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.jsonl import Record, encode_record
from gpt2cli.records.run_directory import METRICS, PERF, AppendLog, length_up_to_step
from gpt2cli.training.config import TrainConfig


class RunLog:
    """The two logs of one run; a copy of the metrics' lines may go elsewhere."""

    def __init__(self, directory: Path, record: Record, config: TrainConfig,
                 copy: Callable[[bytes], None] | None) -> None:
        self._record, self._config = record, config
        self._directory = directory
        self._metrics = AppendLog(directory / METRICS, copy)
        self._perf = AppendLog(directory / PERF)

    def cut(self, metrics_bytes: int, step: int, metrics_sha256: str | None) -> None:
        """Take back what was written after `step`, when metrics.jsonl had `metrics_bytes` of that sha256.

        Raises BadInput when it has fewer, or others.
        """
        self._metrics.cut(metrics_bytes, metrics_sha256)
        self._perf.cut(length_up_to_step(self._directory / PERF, step))

    def at(self, step: int) -> dict[str, Any]:
        """Return the fields that say where `step` is: run, step, tokens and FLOP so far."""
        tokens = step * self._config.batch_tokens
        return {"run": self._record["run"], "step": step, "tokens": tokens,
                "flops": tokens * self._config.shape.train_flops_per_token()}

    def begin(self, record: Record) -> None:
        """Write the run's own record, as it is from here on."""
        self._metrics.write(encode_record("gpt2.run", record))

    def metrics(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Append a record of `kind` at `step` to metrics.jsonl; Gpt2Error where a number in it is not finite."""
        try:
            line = encode_record(kind, {**self.at(step), **fields})
        except ValueError:
            raise Gpt2Error(f"step {step}: a number of its {kind} record is not finite: training has diverged; a lower "
                            "--lr or a longer --warmup may help; the same command goes on from the newest checkpoint"
                            ) from None
        self._metrics.write(line)

    def perf(self, step: int, fields: dict[str, Any]) -> None:
        """Append how fast `step` was to perf.jsonl."""
        self._perf.write(encode_record("gpt2.perf", {"run": self._record["run"], "step": step, **fields}))

    def sync(self) -> tuple[int, str]:
        """Bring both to disk; return the length of metrics.jsonl in bytes, and its sha256."""
        self._perf.sync()
        return self._metrics.sync()

    def close(self) -> None:
        """Close both."""
        self._metrics.close()
        self._perf.close()


class UnwrittenLog(RunLog):
    """The log of a rank that does not lead: it knows where the run stands and writes nothing."""

    def __init__(self, record: Record, config: TrainConfig) -> None:
        self._record, self._config = record, config

    def cut(self, metrics_bytes: int, step: int, metrics_sha256: str | None) -> None:
        """Do nothing."""

    def begin(self, record: Record) -> None:
        """Do nothing."""

    def metrics(self, kind: str, step: int, fields: dict[str, Any]) -> None:
        """Do nothing."""

    def perf(self, step: int, fields: dict[str, Any]) -> None:
        """Do nothing."""

    def sync(self) -> tuple[int, str]:
        """Do nothing; no length is asked for."""
        return 0, ""

    def close(self) -> None:
        """Do nothing."""
