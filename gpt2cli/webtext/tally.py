"""What a step read, kept and dropped, by reason: the summary line, and the rejects file behind it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpt2cli.records.jsonl import Record, RecordWriter

MAX_WHAT = 4096
"""Characters of a dropped item's name that the rejects file keeps; a URL can be of any length."""


@dataclass
class StepTally:
    """Counts of one step. Every dropped item also goes to `rejects` when there is one."""

    step: str
    rejects: RecordWriter | None = None
    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, what: str, reason: str, detail: str = "", **more: object) -> None:
        """Count one item as dropped for `reason`; `what` names it (a URL, or a file and line); `more`: other fields."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if self.rejects is not None:
            fields: Record = {"what": what[:MAX_WHAT], "reason": reason, "step": self.step, **more}
            if detail:
                fields["detail"] = detail
            self.rejects.write("gpt2.reject", fields)

    def line(self) -> str:
        """Return the summary: `links: read 312, kept 150, dropped 162 (40 karma below 3, ...)`."""
        total = sum(self.dropped.values())
        ranked = sorted(self.dropped.items(), key=lambda item: (-item[1], item[0]))
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in ranked)
        line = f"{self.step}: read {self.read:,}, kept {self.kept:,}, dropped {total:,}"
        return f"{line} ({reasons})" if reasons else line
