"""The main text of a page by resiliparse: ten times as fast as trafilatura, with more of the page's furniture in it."""

from __future__ import annotations

import re

from resiliparse.extract.html2text import extract_plain_text

_BLANK_LINES = re.compile(r"\n\s*\n")


def resiliparse_text(html: str) -> str:
    """Return the text, a paragraph a line, or "" when there is none."""
    text = extract_plain_text(html, main_content=True, alt_texts=False, links=False, form_fields=False, noscript=False,
                              comments=False, list_bullets=False)
    return _BLANK_LINES.sub("\n", text)
