"""Remembered tests of attributes: the same nodes as lxml's own re:test() finds, for trafilatura's own expressions."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from lxml.etree import XPath

from gpt2cli.webtext import attribute_tests
from gpt2cli.webtext.attribute_tests import with_remembered_tests

EXSLT = {"re": "http://exslt.org/regular-expressions"}
WORDS = ("post-content", "nav", "Navbar", "main", "article ", "footer", "cookie-consent", "comments-list", "hidden",
         "share-", "widget", "teaser", "é", "", " ", "x" * 600)
TAGS = ("div", "p", "span", "section", "article", "ul", "aside", "main", "footer", "h1", "item", "list")


def asked(path: str) -> XPath:
    """Return an expression as trafilatura makes its own."""
    return XPath(path, namespaces=EXSLT)


@st.composite
def trees(draw: st.DrawFn) -> lxml.html.HtmlElement:
    """Draw a page of some elements with attributes that the expressions look for, and without."""
    page = lxml.html.Element("body")
    places = [page]
    for _ in range(draw(st.integers(1, 12))):
        element = etree.SubElement(draw(st.sampled_from(places)), draw(st.sampled_from(TAGS)))
        for name in draw(st.lists(st.sampled_from(("class", "id", "style", "role")), unique=True)):
            element.set(name, draw(st.sampled_from(WORDS)) + draw(st.sampled_from(WORDS)))
        element.text = "text"
        places.append(element)
    return page


def trafilaturas() -> list[XPath]:
    """Return its expressions as a process that never imported ours has them."""
    script = ("import importlib; from lxml.etree import XPath; from trafilatura import xpaths\n"
              "cleaning = importlib.import_module('trafilatura.baseline').BASIC_CLEAN_XPATH\n"
              "for value in (*vars(xpaths).values(), [cleaning]):\n"
              "  for one in value if isinstance(value, list) else ():\n"
              "    print(repr(one.path)) if isinstance(one, XPath) else None")
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [asked(ast.literal_eval(line)) for line in done.stdout.split("\n") if line]


@pytest.fixture(scope="module")
def both() -> list[tuple[XPath, XPath]]:
    """Return (trafilatura's, ours) of every expression that is made another."""
    pairs = [(one, with_remembered_tests(one)) for one in trafilaturas()]
    return [(theirs, ours) for theirs, ours in pairs if ours is not theirs]


def test_every_expression_with_a_regular_expression_is_made_another(both: list[tuple[XPath, XPath]]) -> None:
    assert len(both) == sum("re:test" in one.path for one in trafilaturas()) >= 15
    assert not any("re:" in ours.path for _, ours in both)


def test_the_nodes_are_the_same(both: list[tuple[XPath, XPath]]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(trees())
    def same(page: lxml.html.HtmlElement) -> None:
        for theirs, ours in both:
            assert ours(page) == theirs(page), theirs.path

    same()


@pytest.mark.parametrize(("path", "another"), [
    (".//*[re:test(@id, 'a|b')]", True),
    (".//*[re:test(@id|@class, 'A', 'i') and not(re:test(@class, 'b'))]", True),
    (".//*[not(re:test(@id, '^$'))]", False),
    (".//*[re:test(@id, 'a*')]", False),
    (".//*[re:test(., 'text')]", False),
    (".//*[re:test(@id, 'a', 'g')]", False),
    (".//p", False)])
def test_what_passes_without_the_attribute_is_left_alone(path: str, another: bool) -> None:
    page = lxml.html.fromstring("<div id='a'><p class='b'>text<i id='A' class='a'>x</i></p><p id=''>c</p></div>")
    ours = with_remembered_tests(asked(path))
    assert (ours.path != path) is another
    assert ours(page) == asked(path)(page)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribute_tests, "_MAX_REMEMBERED", 3)
    ours = with_remembered_tests(asked(".//*[re:test(@id, '[02468]$')]"))
    page = lxml.html.fromstring("<div>" + "".join(f"<p id='{n}'>x</p>" for n in range(20)) + "</div>")
    for _ in range(2):
        assert [one.get("id") for one in ours(page)] == [str(n) for n in range(0, 20, 2)]


def test_trafilatura_uses_them() -> None:
    from gpt2cli.webtext import trafilatura_text

    assert trafilatura_text.trafilatura_text(f"<html><body><p>{'many words ' * 50}</p></body></html>")
    assert "re:" not in importlib.import_module("trafilatura.xpaths").OVERALL_DISCARD_XPATH[0].path
    assert "re:" not in vars(importlib.import_module("trafilatura.baseline"))["BASIC_CLEAN_XPATH"].path
