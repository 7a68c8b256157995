from __future__ import annotations

import email.utils
import time

import pytest

from gpt2cli.webtext.back_off import Pauses

PAUSES = Pauses(1.0, 120.0)


def test_pauses_double_with_a_jitter_that_is_the_same_everywhere() -> None:
    waits = [PAUSES.after_failure("example.org", number) for number in range(1, 30)]
    for number, wait in enumerate(waits[:4]):
        assert 2.5 * 2**number <= wait <= 7.5 * 2**number
    assert waits[-1] == 120.0
    assert waits == [PAUSES.after_failure("example.org", number) for number in range(1, 30)]
    assert len({PAUSES.after_failure(f"host-{number}", 1) for number in range(100)}) > 90
    assert Pauses(0.0, 120.0).after_failure("example.org", 9) == 0


@pytest.mark.parametrize(("value", "seconds"), [
    ("7", 7), (" 7 ", 7), ("0", 0), ("86400", 120), ("9" * 500, 120), (None, 0), ("", 0), ("soon", 0), ("-5", 0),
    ("²", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 9999 07:28:00 GMT", 120),
    ("Wed, 99 Oct 2015 07:28:00 GMT", 0), ("\ud800", 0),
])
def test_retry_after(value: str | None, seconds: float) -> None:
    assert PAUSES.retry_after(value) == seconds


def test_retry_after_a_date() -> None:
    assert 20 <= PAUSES.retry_after(email.utils.formatdate(time.time() + 30, usegmt=True)) <= 31


@pytest.mark.parametrize("off_s", [0, -86_400, 3652 * 86_400])
def test_retry_after_a_date_is_counted_from_the_servers_clock(off_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, date = time.time(), email.utils.formatdate
    monkeypatch.setattr(time, "time", lambda: now + off_s)
    assert PAUSES.retry_after(date(now + 30, usegmt=True), date(now, usegmt=True)) == 30
    assert PAUSES.retry_after("7", date(now, usegmt=True)) == 7
    assert 20 <= PAUSES.retry_after(date(now + off_s + 30, usegmt=True), "yesterday") <= 31


def test_crawl_delay_is_clamped() -> None:
    assert [PAUSES.crawl_delay(asked) for asked in (None, 0.1, 10.0, 1e9)] == [1.0, 1.0, 10.0, 120.0]
