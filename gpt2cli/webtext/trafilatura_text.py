"""The main text of a page by trafilatura, in its default mode or its fast one."""

from __future__ import annotations

import importlib
import re

import lxml.html
from lxml import etree
from lxml.html import HtmlElement
from trafilatura import extract, xpaths
from trafilatura.utils import HTML_PARSER, load_html

from gpt2cli.webtext.attribute_tests import with_remembered_tests

_PREFORMATTED = re.compile("<pre[\\s>]", re.IGNORECASE)
_TABLE_PARTS = frozenset({"thead", "tbody", "tfoot", "tr", "td", "th"})


def _ask_no_python_for_classes() -> None:
    """Give the parsers that trafilatura uses a table of element classes that lxml reads in C.

    lxml.html's own is a Python function, called for every element that is touched: a twentieth of all time. The classes
    are the same.
    """
    lookup = etree.ElementNamespaceClassLookup(etree.ElementDefaultClassLookup(
        element=HtmlElement, comment=lxml.html.HtmlComment, pi=lxml.html.HtmlProcessingInstruction,
        entity=lxml.html.HtmlEntity))
    classes = lookup.get_namespace(None)
    classes.update(lxml.html.HtmlElementClassLookup._default_element_classes)
    classes[None] = HtmlElement
    for parser in (HTML_PARSER, lxml.html.html_parser):
        parser.set_element_class_lookup(lookup)


def _remember_attribute_tests() -> None:
    """Exchange trafilatura's expressions, in the lists that its modules share, for equal ones that are faster."""
    for expressions in vars(xpaths).values():
        if isinstance(expressions, list) and all(isinstance(one, etree.XPath) for one in expressions):
            expressions[:] = [with_remembered_tests(one) for one in expressions]
    baseline = importlib.import_module("trafilatura.baseline")  # the package has a function of that name
    cleaning = getattr(baseline, "BASIC_CLEAN_XPATH", None)
    if isinstance(cleaning, etree.XPath):
        vars(baseline)["BASIC_CLEAN_XPATH"] = with_remembered_tests(cleaning)


_ask_no_python_for_classes()
_remember_attribute_tests()


def trafilatura_text(html: str, fast: bool = False) -> str:
    """Return the text, a paragraph a line, or "" when there is none. fast: without the fallbacks.

    Fast and precision modes together lose text, and trafilatura's own de-duplication would make a page's text depend on
    the pages before it.
    """
    page: str | HtmlElement | None = html
    if _PREFORMATTED.search(html) and (page := load_html(html)) is not None:
        unwrap_layout_tables(page)
    text = page is not None and extract(page, include_comments=False, include_tables=True, fast=fast,
                                        favor_precision=False, deduplicate=False, output_format="txt")
    return text or ""


def unwrap_layout_tables(tree: HtmlElement) -> None:
    """Turn tables that hold preformatted text into plain blocks, in place.

    Such a table is layout, not data, and as a table the extractor would fold the lines of its <pre> into one.
    """
    for block in tree.iter("pre"):
        table = next((ancestor for ancestor in block.iterancestors() if ancestor.tag == "table"), None)
        if table is None:
            continue
        table.tag = "div"
        for part in table.iter(etree.Element):
            owner = next((a for a in part.iterancestors() if a.tag == "table" or a is table), None)
            if part.tag in _TABLE_PARTS and owner is table:
                part.tag = "div"
