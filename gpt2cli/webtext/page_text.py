"""One HTML page to its main text, by trafilatura. Imported only in worker processes: a page may hang or crash it."""

from __future__ import annotations

import importlib.metadata
import re

from lxml import etree
from lxml.html import HtmlElement

from gpt2cli.webtext.charset import decode_page

_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_TABLE_PARTS = frozenset({"thead", "tbody", "tfoot", "tr", "td", "th"})


def extractor_version() -> str:
    """Return what documents name as their extractor, such as trafilatura/2.3.1."""
    return f"trafilatura/{importlib.metadata.version('trafilatura')}"


def page_text(body: bytes, http_charset: str | None) -> str:
    """Return the main text of a page, a paragraph a line, or "" when there is none.

    trafilatura runs in its default mode: fast and precision modes lose text, and its own de-duplication would make a
    page's text depend on the pages before it.
    """
    from trafilatura import extract
    from trafilatura.utils import load_html

    html = _XML_DECLARATION.sub("", decode_page(body, http_charset).replace("\x00", ""))
    if not html.strip():
        return ""
    tree = load_html(html)
    if tree is None:
        return ""
    unwrap_layout_tables(tree)
    text = extract(tree, include_comments=False, include_tables=True, fast=False, favor_precision=False,
                   deduplicate=False, output_format="txt")
    return (text or "").strip()


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
