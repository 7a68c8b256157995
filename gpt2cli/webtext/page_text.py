"""One HTML page to its main text. Extractors are imported only in worker processes: a page may hang or crash them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable

from gpt2cli.webtext.charset import decode_page

EXTRACTORS = ("trafilatura", "merged", "resiliparse")
"""Names of extractors."""
_LIBRARIES = {"merged": ("trafilatura", "resiliparse")}
MERGED_VERSION = 1
"""Goes up when the rules of merged_text.py change."""
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def extractor_version(name: str) -> str:
    """Return what documents name as their extractor, such as "trafilatura/2.3.1"; of a merge, its parts too."""
    own = (f"{name}/{MERGED_VERSION}",) if name in _LIBRARIES else ()
    parts = (f"{library}/{importlib.metadata.version(library)}" for library in _LIBRARIES.get(name, (name,)))
    return " ".join((*own, *parts))


def page_text(name: str) -> Callable[[bytes, str | None], str]:
    """Return the extractor of that name: of a page's bytes and HTTP charset, its text, a paragraph a line, or ""."""
    text_of = _extractor(name)

    def text(body: bytes, http_charset: str | None) -> str:
        html = decode_page(body, http_charset)
        if b"\x00" in body:
            html = html.replace("\x00", "")
        html = _XML_DECLARATION.sub("", html)
        return text_of(html).strip() if html.strip() else ""

    return text


def _extractor(name: str) -> Callable[[str], str]:
    if name == "trafilatura":
        from gpt2cli.webtext.trafilatura_text import trafilatura_text

        return trafilatura_text
    if name == "merged":
        from gpt2cli.webtext.merged_text import merged_text

        return merged_text
    if name == "resiliparse":
        from gpt2cli.webtext.resiliparse_text import resiliparse_text

        return resiliparse_text
    raise ValueError(name)
