"""The page as a file, read by html.parser: nothing in it runs, loads or closes what it should not."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_pages import HOSTILE, THEMES, make_page

from gpt2cli.detection.characters import visible


class Parsed(html.parser.HTMLParser):
    """Tags with attributes, what stands in scripts, styles and the text, and the classes of the text's spans."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self.text, self.classes, self._open = "", [], []
        self.feed(page)
        self.close()
        assert self._open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag in self.inside:
            self.inside[tag].append("")
        if tag not in ("meta", "line", "rect"):
            self._open.append((tag, dict(attributes).get("class")))
        if tag == "span" and ("div", "text") in self._open:
            self.classes.append(dict(attributes)["class"])

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in self.inside:
            self.inside[self._open[-1][0]][-1] += data
        elif ("div", "text") in self._open:
            self.text += data


def check_harmless(page: str, text: str) -> Parsed:
    parsed = Parsed(page)
    tags = {tag for tag, _ in parsed.tags}
    assert tags <= {"html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "strong", "span",
                    "kbd", "div", "main", "section", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg",
                    "line", "rect", "figure", "figcaption", "g", "text", "i", "aside", "footer", "script"}
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") or name in ("style", "href", "src", "action") for name in attributes), tag
    assert len(parsed.inside["style"]) == 1 and len(parsed.inside["script"]) == 2
    assert not re.search(r"url\(|@import|https?:|//[a-z0-9]", parsed.inside["style"][0] + parsed.inside["script"][1])
    assert parsed.text == visible(text), "the text is there, whole"
    shown = json.loads(parsed.inside["script"][0])["documents"][0]
    assert len(shown["starts"]) == len(parsed.classes)
    return parsed


def test_hostile_text_is_text(lively: Path, tmp_path: Path) -> None:
    page = make_page(lively, HOSTILE.encode(), tmp_path)
    parsed = check_harmless(page, HOSTILE)
    assert not set("\x00\x1b\u202e\u2066\u2028\u2029\ufeff") & set(page)
    assert parsed.inside["title"][0].startswith("Token ranks under lively")


@given(st.text(min_size=1, max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_text_is_text(lively: Path, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    check_harmless(make_page(lively, text.encode(), tmp_path_factory.mktemp("page")), text)


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(lively: Path, tmp_path: Path) -> None:
    parsed = Parsed(make_page(lively, b"To be", tmp_path))
    (policy,) = (attributes["content"] for tag, attributes in parsed.tags
                 if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy")
    directives = dict(directive.strip().split(" ", 1) for directive in str(policy).split(";"))
    digests = {name: base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
               for name, code in (("style-src", parsed.inside["style"][0]), ("script-src", parsed.inside["script"][1]))}
    assert directives == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'",
                          **{name: f"'sha256-{digest}'" for name, digest in digests.items()}}


def test_the_page_is_bounded_and_says_so(lively: Path, tmp_path: Path) -> None:
    text = ("To be, or not to be. " * 300).encode()
    short = make_page(lively, text, tmp_path, max_tokens=50)
    assert "The first 50 of" in short and "the counts are of all" in short
    assert len(Parsed(short).classes) == 50
    assert len(short) < 40_000 < len(make_page(lively, text, tmp_path))


def test_documents_beyond_the_room_are_counted_and_said(gpt2_here: Callable, lively: Path, tmp_path: Path) -> None:
    source = tmp_path / "docs.jsonl"
    source.write_text("".join(json.dumps({"text": f"Document {number} & <b>"}) + "\n" for number in range(30)))
    page = tmp_path / "page.html"
    gpt2_here("detect", "show", lively, source, "--html", page, "--max-tokens", 40, check=True)
    text = page.read_text(encoding="utf-8")
    assert "All 30 documents" in text
    shown = text.count('class="text"')
    assert 1 < shown < 30 and f"{30 - shown} more documents are in the counts above" in text
    assert len(json.loads(Parsed(text).inside["script"][0])["documents"]) == shown


def test_the_same_text_gives_the_same_bytes(lively: Path, tmp_path: Path) -> None:
    assert make_page(lively, b"To be, or not", tmp_path) == make_page(lively, b"To be, or not", tmp_path)


def test_the_script_writes_text_alone() -> None:
    script = Path(__file__).parents[2] / "gpt2cli" / "detection" / "page" / "gltr.js"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|fetch|XMLHttp|import",
                         script.read_text())


EYES = {  # Machado, Oliveira and Fernandes 2009, severity 1
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "most eyes": np.eye(3).tolist(),
}


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(light, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", THEMES[:2], ids=["light", "dark"])
def test_colours_can_be_read_and_told_apart(theme: tuple[str, ...]) -> None:
    """Contrast of WCAG's AA (4.5) and more, and CIE76 distances of 15 and more between classes, whatever the eyes."""
    _, ink, *classes = theme
    for colour in classes:
        low, high = sorted(float(linear(one) @ [0.2126, 0.7152, 0.0722]) + 0.05 for one in (ink, colour))
        assert high / low >= 4.5, colour
    for name, matrix in EYES.items():
        seen = [lab(np.array(matrix) @ linear(colour)) for colour in classes]
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(one - other) >= 15, f"{name} cannot tell two classes apart"


def test_both_themes_were_found() -> None:
    assert len(THEMES) == 3 and THEMES[0][2:] == THEMES[2][2:], "light, dark, and paper as light"
