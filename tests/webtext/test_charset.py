from __future__ import annotations

import codecs

import pytest

from gpt2cli.webtext.charset import decode_page, header_charset

GERMAN = "<html><body>Die Möwe flog über die Brücke, während der Großvater fröhlich süße Äpfel schälte.</body></html>"
RUSSIAN = "<html><body>" + "Смотритель маяка каждый вечер записывал, что делало море. " * 8 + "</body></html>"
JAPANESE = "<html><body>灯台守は毎晩、その日の海の様子を書き留めた。</body></html>"


def test_header_charset() -> None:
    assert header_charset("text/html; Charset=\"utf-8\"") == "utf-8"
    assert header_charset("text/html") is None
    assert header_charset(None) is None


@pytest.mark.parametrize(("body", "header", "text"), [
    (GERMAN.encode(), None, GERMAN),
    (GERMAN.encode("latin-1"), "iso-8859-1", GERMAN),
    (GERMAN.encode(), "iso-8859-1", GERMAN),
    (codecs.BOM_UTF8 + GERMAN.encode(), "iso-8859-1", GERMAN),
    (codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"), "utf-8", GERMAN),
    (JAPANESE.encode("shift_jis"), "Shift_JIS", JAPANESE),
    (JAPANESE.encode("euc_jp"), "euc-jp", JAPANESE),
    (RUSSIAN.encode("koi8-r"), "koi8-r", RUSSIAN),
    (RUSSIAN.encode("cp1251"), "utf-8", None),
    ("“quoted”".encode("cp1252"), "iso-8859-1", "“quoted”"),
    (GERMAN.encode(), "no-such-charset", GERMAN),
    (GERMAN.encode(), "base64", GERMAN),
    (GERMAN.encode("cp1252"), "no-such-charset", GERMAN),
    (b"2 +ADw- 3", "utf-7", "2 +ADw- 3"),
])
def test_the_header(body: bytes, header: str | None, text: str | None) -> None:
    decoded = decode_page(body, header)
    assert decoded == text if text is not None else "\ufffd" in decoded


def test_the_meta_element() -> None:
    page = '<html><head><meta http-equiv="Content-Type" content="text/html; charset=windows-1251"></head>' + RUSSIAN
    assert decode_page(page.encode("cp1251"), None) == page
    xml = '<?xml version="1.0" encoding="iso-8859-1"?>' + GERMAN
    assert decode_page(xml.encode("latin-1"), None) == xml
    lying = '<meta charset="utf-16">' + GERMAN
    assert decode_page(lying.encode(), None) == lying


def test_detection_where_nothing_is_said() -> None:
    assert "Смотритель маяка" in decode_page(RUSSIAN.encode("cp1251"), None)


def test_noise_never_fails() -> None:
    assert isinstance(decode_page(bytes(range(256)) * 10, None), str)
    assert decode_page(b"", None) == ""
