"""De-tokenizers: what ordinary text comes out, and that the tokenised text always comes back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.detokenize import STYLES, detokenize, retokenize

WIKITEXT = {
    " ": "",
    " = Valkyrie of the Harbour = ": "= Valkyrie of the Harbour =",
    " = = = Early years = = = ": "=== Early years ===",
    ' The 1 @,@ 250 @-@ ton steamer , built in 1893 – 94 by J. R. Miller & Sons ( later " Miller \'s Yard " ) , cost '
    "£ 25 @,@ 000 and didn 't enter service until 3 May ; its speed was 17 @.@ 5 knots ( 32 @.@ 4 km / h ) . ":
    'The 1,250-ton steamer, built in 1893–94 by J. R. Miller & Sons (later "Miller\'s Yard"), cost £25,000 and didn\'t '
    "enter service until 3 May; its speed was 17.5 knots (32.4 km/h).",
    ' Critics called it " the Queen \'s folly " . Mr. Smith of the U.S. Navy said : " It \'s not a <unk> @-@ class '
    'ship ! " He later moved to St. Louis , Missouri . ':
    'Critics called it "the Queen\'s folly". Mr. Smith of the U.S. Navy said: "It\'s not a <unk>-class ship!" He later '
    "moved to St. Louis, Missouri.",
    " The sailors ' union won 50 % of the vote at 12 : 30 , and the song ' Harbour Lights ' reached No. 4 in the U.S. "
    ". ":
    "The sailors' union won 50% of the vote at 12:30, and the song 'Harbour Lights' reached No. 4 in the U.S. .",
    " <unk> 's work — and that of others — was well @-@ received [ 5 ] , see pp. 12 – 15 . ":
    "<unk>'s work — and that of others — was well-received [5], see pp. 12–15.",
    " a 50 % @-@ 60 % share , or $ 5 @.@ 25 – 6 million ": "a 50% @-@ 60% share, or $5.25–6 million",
}
PTB = {
    " no it was n't black monday ": "no it wasn't black monday",
    " mr. <unk> 's stake in the u.s. unit rose to $ N million or N % of the investors ' shares from c$ N ":
    "mr. <unk>'s stake in the u.s. unit rose to $N million or N% of the investors' shares from c$ N",
    " they 're sure he 'd ca n't wo n't at at&t ": "they're sure he'd can't won't at at&t",
}
LAMBADA = {
    "`` do n't , '' she said . he 'd never -lrb- as far as mr. brown knew -rrb- seen it ; was that it ? `` i ca n't , "
    "'' said the king 's man , `` it 's $ 50 ! ''":
    '"don\'t," she said. he\'d never (as far as mr. brown knew) seen it; was that it? "i can\'t," said the king\'s '
    'man, "it\'s $50!"',
    "well ... he could n't say . `` yes . ''": 'well ... he couldn\'t say. "yes."',
}
CBT = {
    "`` I do n't know , '' said the Queen -LRB- who was cross -RRB- , `` but ` Tom ' will ! ''":
    '"I don\'t know," said the Queen (who was cross), "but \'Tom\' will!"',
    "1 Once upon a time there was a king .": "1 Once upon a time there was a king.",
}
ONE_BILLION = {
    '" It \'s the idea that you don \'t have to , " said Ms. Jones ( 35 ) of the U.S. Centers for Disease Control .':
    '"It\'s the idea that you don\'t have to," said Ms. Jones (35) of the U.S. Centers for Disease Control.',
    "The bank lost $ 4.5 billion -- or 12 % of its value -- in Sept. , officials said .":
    "The bank lost $4.5 billion -- or 12% of its value -- in Sept., officials said.",
    'He told reporters : " We \'re going to the players \' hotel . "':
    'He told reporters: "We\'re going to the players\' hotel."',
    "The so-called ' zombie ' firms of Yahoo ! Inc. are dead .":
    "The so-called 'zombie' firms of Yahoo! Inc. are dead.",
}
SAMPLES = {"wikitext": WIKITEXT, "ptb": PTB, "lambada": LAMBADA, "cbt": CBT, "1bw": ONE_BILLION}
LINES = [(name, line, ordinary) for name, lines in SAMPLES.items() for line, ordinary in lines.items()]
# Each is ambiguous: its own style would split or join it otherwise.
STUBBORN = [("wikitext", " an e-mail of 1,000 words "), ("wikitext", "no padding"),
            ("ptb", " don't "), ("lambada", 'he said "no" .'), ("cbt", "(really)"), ("1bw", "it's (not) so,no")]
TOKENS = st.sampled_from([
    "", " ", "a", "dog", "Dogs", "U.S.", "Mr.", "end.", "3", "1990", "J.", ".", ",", ";", ":", "!", "?", "...", "--",
    "-", "–", "(", ")", "[", "]", "{", "}", '"', "'", "``", "''", "`", "'s", "'t", "n't", "'re", "'90s", "didn", "did",
    "@-@", "@,@", "@.@", "@", "/", "=", "==", "%", "$", "c$", "£", "#", "<unk>", "N", "-LRB-", "-RRB-",
    "-lrb-", "-rrb-", "don't", "e-mail", "1,000", "é", "\u00a0", "\t", "\r", "\x0b", "\u2028", "\ufeff", "no",
    "No", "s",
])
TOKENISED = st.lists(st.lists(TOKENS, max_size=9).map(" ".join), max_size=4).map("\n".join)


@pytest.mark.parametrize(("name", "line", "ordinary"), LINES)
def test_ordinary_text_comes_out_and_the_line_comes_back(name: str, line: str, ordinary: str) -> None:
    done = detokenize(name, line + "\n")
    assert (done.text, done.n_lines, done.passed) == (ordinary + "\n", 1, ())
    assert retokenize(name, done.text) == line + "\n"


@pytest.mark.parametrize(("name", "line"), STUBBORN)
def test_a_line_that_would_not_come_back_is_passed_through_and_counted(name: str, line: str) -> None:
    style = STYLES[name]
    assert style is not None
    assert style.retokenize(style.detokenize(line)) != line
    good = next(iter(SAMPLES[name]))
    done = detokenize(name, f"{good}\n{line}\n{good}\n")
    assert (done.n_lines, done.passed) == (3, (1,))
    assert done.text.split("\n")[1] == line
    assert retokenize(name, done.text, done.passed) == f"{good}\n{line}\n{good}\n"


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=80, deadline=None)
@given(text=st.one_of(TOKENISED, st.text(max_size=60)))
def test_whatever_the_text_it_comes_back(name: str, text: str) -> None:
    done = detokenize(name, text)
    assert retokenize(name, done.text, done.passed) == text
    assert done.text.count("\n") == text.count("\n")


@pytest.mark.parametrize("name", STYLES)
def test_line_ends_stay_as_they_are(name: str) -> None:
    line = next(iter(SAMPLES.get(name, CBT)))
    text = f"{line}\r\n{line}\n\r\n{line}"
    done = detokenize(name, text)
    assert done.n_lines == 4
    assert done.text.count("\r\n") == 2
    assert retokenize(name, done.text, done.passed) == text


def test_a_space_is_saved_for_each_mark_and_no_word_is_lost() -> None:
    text = "".join(f"{line}\n" for line in WIKITEXT)
    done = detokenize("wikitext", text)
    assert len(done.text) < 0.9 * len(text)
    assert sum(done.text.count(letter) for letter in "aeiou") == sum(text.count(letter) for letter in "aeiou")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageFault, match="no de-tokenizer 'moses'"):
        detokenize("moses", "")
