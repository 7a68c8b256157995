"""Bytes of a page to text: byte order mark, valid UTF-8, the HTTP header, the page's own word, then detection."""

from __future__ import annotations

import codecs
import re

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta[^>]{0,400}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_PRESCAN = 4096
# Labels that browsers read as a wider charset (WHATWG Encoding Standard); Python's own are the narrow ones.
_WIDER = {
    "iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "tis-620": "cp874", "iso8859-11": "cp874",
}
_NOT_FOR_PAGES = frozenset({"unicode_escape", "raw_unicode_escape", "utf-7", "idna", "punycode", "undefined"})
_HTTP = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)


def header_charset(content_type: str | None) -> str | None:
    """Return the charset parameter of a Content-Type header, or None."""
    match = _HTTP.search(content_type or "")
    return match[1] if match else None


def decode_page(body: bytes, http_charset: str | None) -> str:
    """Return the text of an HTML page. Never fails: what no charset explains becomes U+FFFD."""
    for mark, charset in _BOMS:
        if body.startswith(mark):
            return body[len(mark):].decode(charset, "replace")
    text = _try(body, "utf-8")
    if text is not None and not body.isascii():
        return text  # multi-byte sequences that happen to be valid are no accident, whatever a server's default says
    declared = [found for found in (http_charset, _declared(body)) if found and _codec(found)]
    for label in declared:
        declared_text = _try(body, label)
        if declared_text is not None:
            return declared_text
    if text is not None:
        return text
    if not declared:
        guessed = _detect(body)
        if guessed is not None:
            return guessed
    return body.decode((_codec(declared[0]) if declared else None) or "cp1252", "replace")


def _declared(body: bytes) -> str | None:
    start = body[:_PRESCAN]
    match = _META.search(start) or _XML.search(start)
    if match is None:
        return None
    label = match[1].decode("ascii")
    # A page that could be read this far is not UTF-16, whatever it says.
    return "utf-8" if label.lower().startswith("utf-16") else label


def _codec(label: str) -> str | None:
    try:
        found = codecs.lookup(label.strip())
    except (LookupError, ValueError):
        return None
    # Some packages register codecs that answer to any name: only the standard library's count.
    ours = str(getattr(found.incrementaldecoder, "__module__", "")).startswith("encodings.")
    if not ours or not found._is_text_encoding or found.name in _NOT_FOR_PAGES:
        return None
    return _WIDER.get(found.name, found.name)


def _try(body: bytes, label: str) -> str | None:
    codec = _codec(label)
    if codec is None:
        return None
    # windows-1252 leaves five bytes undefined; one of them in a page is no reason to doubt the label
    errors = "replace" if codec.startswith("cp125") else "strict"
    try:
        return body.decode(codec, errors)
    except (UnicodeDecodeError, ValueError):
        return None


def _detect(body: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(body[:65536]).best()
    return None if best is None else body.decode(best.encoding, "replace")
