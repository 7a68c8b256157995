from __future__ import annotations

from collections import deque
from concurrent.futures import Future

import pytest

from gpt2cli.webtext.page import Page, PageBody
from gpt2cli.webtext.page_pool import Limits, PagePool, PageText


class FinishesMeanwhile(Future[PageText]):
    """Done a moment after it was found not to be."""

    def done(self) -> bool:
        before = super().done()
        if not before:
            self.set_result(PageText("found"))
        return before

    def result(self, timeout: float | None = None) -> PageText:
        try:
            return super().result(timeout)
        finally:
            self.done()


@pytest.fixture
def pool() -> PagePool:
    return PagePool("resiliparse", 1, Limits())


def page() -> Page:
    return Page({}, "a page", lambda: PageBody(b""))


def test_a_text_that_comes_just_when_the_wait_for_it_is_over_is_taken(pool: PagePool) -> None:
    asked = page()
    assert pool._take(deque([(asked, FinishesMeanwhile())]), lambda: None) == (asked, PageText("found"))


def test_what_a_page_raises_is_raised_in_its_turn_also_a_timeout(pool: PagePool) -> None:
    future: Future[PageText] = Future()
    future.set_exception(TimeoutError("the disk did not answer"))
    with pytest.raises(TimeoutError, match="the disk did not answer"):
        pool._take(deque([(page(), future)]), lambda: None)
