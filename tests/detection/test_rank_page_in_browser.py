"""The page looked at in a real browser: its colours where they belong, what pointing and keys show, hostile text inert.

$GPT2CLI_SCREENSHOTS, a directory, keeps the pictures for a person to look at.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from headless_browser import MISSING, Browser, Page, find_browser, running
from rank_pages import HOSTILE, THEMES, make_page

from gpt2cli.detection.characters import visible
from gpt2cli.tokens.encode import Encoder

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
CLASSES = "abcd"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running(str(PROGRAM)) as found:
        yield found


@pytest.fixture(scope="module")
def page_file(orderly, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A page of tokens of every class, and the rank of the token behind each of its spans, by arithmetic alone."""
    directory, vocabulary = orderly
    beyond = [data for data, rank in vocabulary.ranks.items() if rank > 1100 and data.isalpha()][:12]
    text = "!#$%&AZaz!\u00e9\u20ac" + b"".join(b"!" + data for data in beyond).decode() + "\nA second line! <b>\n"
    folder = tmp_path_factory.mktemp("page")
    make_page(directory, text.encode(), folder)
    ids = Encoder(vocabulary).encode(text).tolist()
    tokens = vocabulary.token_bytes()
    ranks, held = [], []
    for token in ids:
        held.append(token)
        try:
            b"".join(tokens[one] for one in held).decode()
        except UnicodeDecodeError:
            continue
        ranks.append(max(held) + 1)
        held = []
    return folder / "page.html", ranks


def class_of(rank: int) -> str:
    return CLASSES[sum(rank > bound for bound in (10, 100, 1000))]


def colour(name: str) -> tuple[int, ...]:
    return tuple(int(name[at : at + 2], 16) for at in (1, 3, 5))


def spans(page: Page) -> list[list[float]]:
    """Return left, top, right, bottom of each span of the first text, on the page."""
    return page.evaluate("[...document.querySelectorAll('.text span')].map(s => { const r = s.getClientRects()[0];"
                         "return [r.left, r.top + scrollY, r.right, r.bottom + scrollY] })")


def keep(name: str) -> Path | None:
    folder = os.environ.get("GPT2CLI_SCREENSHOTS")
    return Path(folder) / f"{name}.png" if folder else None


def ground(picture: np.ndarray, box: list[float]) -> tuple[int, ...]:
    """Return the commonest colour in a box of the picture."""
    left, top, right, bottom = (round(number) for number in box)
    pixels = picture[top + 1 : bottom - 1, left + 1 : max(right - 1, left + 2)].reshape(-1, 3)
    return Counter(map(tuple, pixels.tolist())).most_common(1)[0][0]


@pytest.mark.parametrize(("dark", "width"), [(False, 1200), (True, 1200), (False, 360), (True, 360)])
def test_every_token_stands_on_the_colour_of_its_class(browser: Browser, page_file, dark: bool, width: int) -> None:
    path, ranks = page_file
    page = browser.open(path, width=width, dark=dark, touch=width < 500)
    picture = page.picture(keep(f"{'dark' if dark else 'light'}-{width}"))
    paper, _, *expected = map(colour, THEMES[dark])
    boxes = spans(page)
    assert len(boxes) == len(ranks)
    assert {class_of(rank) for rank in ranks} == set(CLASSES)
    for number, (box, rank) in enumerate(zip(boxes, ranks, strict=True)):
        assert ground(picture, box) == expected[CLASSES.index(class_of(rank))], f"span {number}, rank {rank}"
    assert tuple(picture[2, 2]) == paper
    keys = page.evaluate("[...document.querySelectorAll('.key')].map(k => { const r = k.getBoundingClientRect();"
                         "return [r.left, r.top + scrollY, r.right, r.bottom + scrollY] })")
    assert [ground(picture, box) for box in keys] == expected, "the legend"
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off at the side"
    assert page.complaints == []


def test_on_paper_the_colours_stay_and_the_panel_goes(browser: Browser, page_file) -> None:
    path, ranks = page_file
    page = browser.open(path, dark=True)
    page.media(dark=True, printed=True)
    picture = page.picture(keep("printed"))
    for box, rank in zip(spans(page), ranks, strict=True):
        assert ground(picture, box) == colour(THEMES[0][2:][CLASSES.index(class_of(rank))])
    assert page.evaluate("getComputedStyle(document.getElementById('token')).display") == "none"
    assert tuple(picture[2, 2]) == (255, 255, 255)


def test_classes_are_underlined_too_for_those_who_see_no_colours(browser: Browser, page_file) -> None:
    page = browser.open(page_file[0])
    lines = page.evaluate("['a', 'b', 'c', 'd'].map(c => { const s = getComputedStyle(document.querySelector("
                          "'.text .' + c)); return s.textDecorationLine + ' ' + s.textDecorationStyle })")
    assert lines == ["none solid", "underline dotted", "underline dashed", "underline double"]


def panel(page: Page) -> str:
    return page.evaluate("document.getElementById('token').innerText")


def test_pointing_shows_rank_probability_and_what_was_likelier(browser: Browser, page_file) -> None:
    path, ranks = page_file
    page = browser.open(path)
    page.point(*middle(page, 1))
    words = panel(page)
    p = np.exp(-0.01 * np.arange(1500))
    p = 100 * p / p.sum()
    assert words.split("\n")[0] == "#" and f"rank {ranks[1]} of 1,500" in words
    assert f"probability {p[ranks[1] - 1]:.3g} %" in words
    assert [line for line in words.split("\n") if line in {"!", '"', "#", "$", "%"}][1:] == ["!", '"', "#", "$", "%"]
    assert f"{p[0]:.3f} %" in words
    euro = page.evaluate("[...document.querySelectorAll('.text span')].findIndex(s => s.textContent == '\u20ac')")
    page.point(*middle(page, euro))
    assert "\u20ac is made of" in panel(page) and r"\xe2" in panel(page)
    page.picture(keep("pointed"))


def middle(page: Page, number: int) -> tuple[float, float]:
    left, top, right, bottom = page.evaluate(
        f"(r => [r.left, r.top, r.right, r.bottom])(document.querySelectorAll('.text span')[{number}]"
        ".getBoundingClientRect())")
    return (left + right) / 2, (top + bottom) / 2


def test_keys_move_from_token_to_token(browser: Browser, page_file) -> None:
    path, ranks = page_file
    page = browser.open(path)
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "text"
    assert f"rank {ranks[0]} of" in panel(page)
    for key, number in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", len(ranks) - 1), ("Home", 0)):
        page.press(key)
        assert f"rank {ranks[number]:,} of" in panel(page), key
        assert page.evaluate("[...document.querySelectorAll('.text span')].findIndex(s => s.matches('.on'))") == number
    page.press("ArrowRight", shift=True)
    first_beyond = next(number for number, rank in enumerate(ranks) if number and rank > 1000)
    assert f"rank {ranks[first_beyond]:,} of" in panel(page)
    page.press("Escape")
    assert panel(page).startswith("Point at the text") and page.evaluate("document.querySelector('.on')") is None


def test_a_tap_opens_the_panel_of_a_narrow_screen_and_another_closes_it(browser: Browser, page_file) -> None:
    path, ranks = page_file
    page = browser.open(path, width=360, height=640, touch=True)
    shown = "getComputedStyle(document.getElementById('token')).display"
    assert page.evaluate(shown) == "none"
    page.evaluate("document.querySelector('.text').scrollIntoView()")
    page.tap(*middle(page, 3))
    wait_for(page, f"{shown} == 'block'")
    assert f"rank {ranks[3]} of" in panel(page)
    page.tap(*middle(page, 3))
    wait_for(page, f"{shown} == 'none'")


def wait_for(page: Page, condition: str) -> None:
    deadline = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_hostile_text_runs_nothing_asks_for_nothing_and_is_all_there(browser: Browser, lively: Path, tmp_path: Path
                                                                     ) -> None:
    make_page(lively, HOSTILE.encode(), tmp_path)
    path = tmp_path / "page.html"
    page = browser.open(path)
    title = page.evaluate("document.title")
    for number in range(page.evaluate("document.querySelectorAll('.text span').length")):
        page.evaluate(f"document.querySelectorAll('.text span')[{number}].dispatchEvent("
                      "new PointerEvent('pointerover', {bubbles: true}))")
    page.picture(keep("hostile"))
    assert page.requests == [path.resolve().as_uri()], "the page itself, and nothing else"
    assert (page.dialogs, page.complaints) == ([], [])
    assert page.evaluate("document.title") == title and title.startswith("Token ranks under")
    assert page.evaluate("document.querySelector('.text').textContent") == visible(HOSTILE)
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img, a, base, iframe, object, form').length") == 0
    assert page.evaluate("document.querySelectorAll('body > *').length") == 5


def test_the_policy_holds_against_what_escaping_would_have_let_through(browser: Browser, page_file, tmp_path: Path
                                                                       ) -> None:
    """Markup put into the finished page by hand, as if escaping had failed: it neither runs nor loads."""
    page_text = page_file[0].read_text(encoding="utf-8")
    planted = ("<script>document.title = 'ran'</script><img src=http://203.0.113.7/x onerror=\"document.title='ran'\">"
               "<svg onload=\"document.title='ran'\"></svg>")
    bad = tmp_path / "bad.html"
    bad.write_text(page_text.replace("<header>", planted + "<header>"), encoding="utf-8")
    page = browser.open(bad)
    assert page.evaluate("document.title").startswith("Token ranks under")
    assert any("Content Security Policy" in line for line in page.complaints)
    assert [event["blockedReason"] for event in page.events("Network.loadingFailed")] == ["csp"], "the picture"
    assert page.requests == [bad.resolve().as_uri(), "http://203.0.113.7/x"]


def test_a_page_of_the_most_tokens_opens(browser: Browser, lively: Path, tmp_path: Path) -> None:
    make_page(lively, b"To be, or not to be. \n" * 1500, tmp_path, max_tokens=10_000)
    page = browser.open(tmp_path / "page.html")
    assert page.evaluate("document.querySelectorAll('.text span').length") == 10_000
    page.press("Tab")
    page.press("End")
    assert "rank" in panel(page)
