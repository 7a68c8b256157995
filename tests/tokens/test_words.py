"""What a word is, against its definition; and long texts cut anywhere."""

from __future__ import annotations

import brute_force_overlap as brute_force
from hypothesis import example, given
from hypothesis import strategies as st

from gpt2cli.overlap.long_words import LongWords
from gpt2cli.tokens.document_batch import LongDocument
from gpt2cli.tokens.words import MAX_WORD, lower_case, word_spans, words_of, words_of_lower

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("aΣσςİıßäÄ_'’\n 1٣ x中。ﬁ\u0307\u00ad")), max_size=60)


@given(TEXTS)
@example("The cat's 3rd_life: ÄRGER, ΟΔΟΣ İstanbul ½ ² 中文 naïve e\u0301")
def test_words_are_runs_of_letters_and_digits(text: str) -> None:
    assert words_of(text) == [word for word in brute_force.words(text) if word]
    assert words_of_lower(lower_case(text)) == words_of(text)


def test_words_of_the_paper() -> None:
    assert words_of("It's 8-grams; of LOWER-cased, alphanumeric_words!") == [
        "it", "s", "8", "grams", "of", "lower", "cased", "alphanumeric", "words"]
    assert words_of("ΣΟΦΟΣ σοφός σοφόσ") == ["σοφοσ", "σοφόσ", "σοφόσ"]


@given(TEXTS)
def test_spans_are_where_the_words_stand(text: str) -> None:
    spans = word_spans(text)
    assert len(spans) == len(words_of(text))
    for (start, stop), word in zip(spans, words_of(text), strict=True):
        assert word in lower_case(text[start:stop])
    assert spans == sorted(spans)


@given(TEXTS, st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_a_long_text_has_the_same_words_wherever_its_blocks_end(text: str, sizes: list[int], broken: bool) -> None:
    data = text.encode() + (b" tail \xe4\xb8 \xff end" if broken else b"")
    blocks, rest = [], data
    while rest:
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(rest[:size])
        rest = rest[size:]
    long = LongWords(LongDocument("x", "x", 0, iter(blocks)))
    found = [word for part in long for word in words_of_lower(part)]
    assert found == words_of(data.decode("utf-8", "replace"))
    assert long.loss.invalid_bytes == (2 if broken else 0)


def test_a_run_without_end_is_not_held() -> None:
    blocks = (b"x" * 100_000 for _ in range(50))
    parts = list(LongWords(LongDocument("x", "x", 0, blocks)))
    assert sum(map(len, parts)) == MAX_WORD + 1
