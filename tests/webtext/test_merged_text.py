"""The extractor that merges two: what each line's fate hangs on."""

from __future__ import annotations

import importlib.metadata

from webtext.local_site import article

from gpt2cli.cli import webtext_options
from gpt2cli.webtext.merged_text import merge_of, merged_text
from gpt2cli.webtext.page_text import EXTRACTORS, extractor_version, page_text

KEEPERS = [" ".join(f"{name}{number}" for number in range(25)) + "." for name in ("wave", "fog", "bell", "lamp")]
LONG = " ".join(f"ship{number}" for number in range(40)) + "."
LINK = "Read more stories like this one"


def test_texts_that_agree_are_kept_as_they_are() -> None:
    text = "\n".join(KEEPERS)
    assert merge_of(text, text).text() == text and merge_of(text, text).agreement() == 1
    assert merge_of("", "").agreement() == 1 and merge_of("", "").text() == ""
    assert merge_of(text, "").text() == text and merge_of(text, "").agreement() == 0


def test_a_short_line_that_the_other_lacks_is_furniture() -> None:
    ours = "\n".join([KEEPERS[0], LINK, *KEEPERS[1:]])
    assert merge_of(ours, "\n".join(KEEPERS)).text() == "\n".join(KEEPERS)


def test_a_long_line_stays_and_so_do_all_where_the_other_has_little() -> None:
    ours = "\n".join([KEEPERS[0], LONG, *KEEPERS[1:]])
    assert merge_of(ours, "\n".join(KEEPERS)).text() == ours
    short = "\n".join([*KEEPERS, LINK])
    assert merge_of(short, "\n".join(KEEPERS[:1])).text() == short


def test_prose_that_only_the_other_has_is_put_in_at_its_place() -> None:
    menu = "Home\nProducts\nAbout"
    other = "\n".join([KEEPERS[0], menu, KEEPERS[2], KEEPERS[3], KEEPERS[1]])
    merged = merge_of("\n".join([KEEPERS[0], KEEPERS[1]]), other).text()
    assert merged == "\n".join([KEEPERS[0], KEEPERS[2], KEEPERS[3], KEEPERS[1]])


def test_a_little_more_prose_is_no_reason() -> None:
    ours = "\n".join(KEEPERS)
    assert merge_of(ours, f"{ours}\nA single further sentence of just about fifteen words that nobody else has seen on "
                          "this page.").text() == ours


def test_lines_broken_elsewhere_are_the_same_lines() -> None:
    ours = " ".join(KEEPERS)
    merge = merge_of(ours, "\n".join(KEEPERS))
    assert merge.text() == ours and merge.agreement() > 0.98


def test_a_page() -> None:
    page = article("Skerry").replace(b"<article>", b"<nav><ul><li><a href='/'>Home</a></li></ul></nav><article>")
    text = merged_text(page.decode())
    assert "Skerry south" in text and "Home" not in text
    assert page_text("merged")(page, None) == text
    assert merged_text("<html><body></body></html>") == ""


def test_names() -> None:
    assert webtext_options.EXTRACTORS == EXTRACTORS
    version = importlib.metadata.version
    assert extractor_version("trafilatura") == f"trafilatura/{version('trafilatura')}"
    assert extractor_version("merged") == \
        f"merged/1 trafilatura/{version('trafilatura')} resiliparse/{version('resiliparse')}"
