"""BLEU and ROUGE against references are those of sacrebleu and rouge-score, and pairs are the right ones."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.quality.documents import Text
from gpt2cli.quality.references import POSITION, ROUGE, Paired, common_length, compare, pair
from gpt2cli.quality.uncertainty import Resampling
from gpt2cli.reporter import Silent

WORDS = ["the", "The", "cat's", "sat,", "running", "runs", "ran", "upon", "3.5%", "a", "of", "houses!", "café"]


def sentences(seed: int, n: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randrange(0, 14))) for _ in range(n)]


def texts(lines: list[str]) -> list[Text]:
    return [Text(line) for line in lines]


def test_one_reference_each() -> None:
    predictions, references = sentences(0, 40), sentences(1, 40)
    near = compare(texts(predictions), pair(texts(predictions), texts(references), POSITION), Silent())
    resampling = Resampling(200)
    assert near.bleu(resampling).value == pytest.approx(sacrebleu.corpus_bleu(predictions, [references]).score)
    assert near.sentence_bleu().tolist() == pytest.approx(
        [sacrebleu.sentence_bleu(one, [two]).score for one, two in zip(predictions, references, strict=True)])
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    expected = [scorer.score(two, one) for one, two in zip(predictions, references, strict=True)]
    for kind in ROUGE:
        assert near.rouge_D[kind].tolist() == pytest.approx([score[kind].fmeasure for score in expected])
        assert near.rouge(kind, resampling).value == pytest.approx(np.mean(near.rouge_D[kind]))


def test_bleus_interval_is_that_of_corpora_drawn_anew() -> None:
    predictions, references = sentences(2, 30), sentences(3, 30)
    near = compare(texts(predictions), pair(texts(predictions), texts(references), POSITION), Silent())
    found = near.bleu(Resampling(60, 7))
    generator, scores = Resampling(60, 7).generator(), []
    for _ in range(60):
        drawn = generator.integers(0, 30, 30)
        scores.append(sacrebleu.corpus_bleu([predictions[n] for n in drawn], [[references[n] for n in drawn]]).score)
    assert found.resampled_R is not None and found.resampled_R.tolist() == pytest.approx(scores)
    assert found.stderr == pytest.approx(np.std(scores, ddof=1))


def test_several_references_and_none() -> None:
    predictions = sentences(4, 3)
    some = Paired([sentences(5, 3), [], sentences(6, 1)], 0)
    near = compare(texts(predictions), some, Silent())
    streams = [[one, two] for one, two in zip(some.references[0], [*some.references[2], None, None], strict=True)]
    expected = sacrebleu.corpus_bleu([predictions[0], predictions[2]], streams)
    assert near.bleu(Resampling(20)).value == pytest.approx(expected.score) and near.bleu(Resampling(20)).n == 2
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    for kind in ROUGE:
        best = scorer.score_multi(some.references[0], predictions[0])[kind].fmeasure
        assert near.rouge_D[kind][0] == pytest.approx(best) and near.rouge_D[kind][1] == 0
    assert near.paired_D.tolist() == [True, False, True]


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_common_subsequence(a: list[str], b: list[str]) -> None:
    row = [0] * (len(b) + 1)
    for item in a:
        above = row[:]
        for place, other in enumerate(b):
            row[place + 1] = above[place] + 1 if item == other else max(above[place + 1], row[place])
    assert common_length(a, b) == row[-1]


def test_pairs_by_a_field() -> None:
    mine = [Text("a", key="1"), Text("b", key="2"), Text("c", key="1")]
    paired = pair(mine, [Text("x", key="1"), Text("y", key="1"), Text("z", key="9"), Text("w", key="9")], "id")
    assert paired == Paired([["x", "y"], [], ["x", "y"]], 2) and paired.n_paired == 2
    with pytest.raises(BadInput, match="no text has a reference with the same `id`"):
        pair(mine, [Text("z", key="9")], "id")
    with pytest.raises(BadInput, match="3 texts and 1 references"):
        pair(mine, [Text("z")], POSITION)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(Gpt2Error, match=r"rouge-score, which is not installed: pip install 'gpt2cli\[tasks\]'"):
        compare(texts(["a"]), Paired([["a"]], 0), Silent())


def test_a_wish_to_stop_is_heeded() -> None:
    class Stop(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        compare(texts(["a"]), Paired([["a"]], 0), Stop())
