"""GLTR's numbers: eval-ppl's own, counted right, and what the model's own draws would give is what they do give."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import lively_model

from gpt2cli.detection.rank_tally import FRACTIONS, RANK_BOUNDS, RankTally, rank_classes
from gpt2cli.detection.rank_words import comparison
from gpt2cli.detection.ranks import RankConfig, RankedBy, rank_texts
from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.predictions import Wanted
from gpt2cli.evaluation.protocols import settle
from gpt2cli.evaluation.scoring import Scorer
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(2, 2, 16, 32, 1500)


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.documents: list = []
        self.calls: list[str] = []

    def begin(self, ranked_by: RankedBy) -> None:
        self.calls.append("begin")

    def document(self, document) -> None:
        self.calls.append("document")
        self.documents.append(document)

    def end(self, total: RankTally, n_documents: int) -> None:
        self.calls.append(f"end {n_documents}")


def draws(temperature: float, top_k: int | None, count: int = 100) -> RankTally:
    """Tally texts that the lively model draws itself, a context each."""
    model = lively_model(SHAPE)
    generator = torch.Generator().manual_seed(5)
    ids = torch.full((count, 1), 1499)
    with torch.inference_mode():
        for _ in range(SHAPE.n_ctx):
            logits = (model(ids)[:, -1] @ model.wte.weight.T).double() / temperature
            if top_k is not None:
                logits[logits < logits.topk(top_k).values[:, -1:]] = -torch.inf
            ids = torch.cat([ids, torch.multinomial(logits.softmax(1), 1, generator=generator)], 1)
    scorer = Scorer(model, 1499, settle("sliding", SHAPE.n_ctx), 2048, wanted=Wanted(1, RANK_BOUNDS, FRACTIONS))
    tally = RankTally(SHAPE.n_vocab)
    for window in scorer.score([[row[1:].numpy()] for row in ids], Silent()):
        tally.add(window)
    assert tally.n_tokens == count * SHAPE.n_ctx
    return tally


def test_own_draws_are_as_expected() -> None:
    """3,200 draws: counts within four standard errors of what is said beforehand, and the surprise too."""
    tally = draws(1.0, None)
    n = tally.n_tokens
    for counts, expected in ((tally.classes, tally.expected_classes), (tally.fractions, tally.expected_fractions)):
        assert expected.sum() == pytest.approx(n, rel=1e-5)
        assert (np.abs(counts - expected) <= 4 * np.sqrt(expected) + 1).all(), (counts, expected)
    assert tally.surprise is not None and abs(tally.surprise) < 4
    assert tally.expected_classes.min() > 20, "every class must be met, or this shows nothing"


@pytest.mark.parametrize(("temperature", "top_k"), [(0.7, None), (1.0, 10)])
def test_colder_draws_are_more_predictable(temperature: float, top_k: int | None) -> None:
    tally = draws(temperature, top_k)
    assert tally.surprise is not None and tally.surprise < -10
    assert "more predictable to the model than text that it draws itself" in comparison(tally)
    if top_k == 10:
        assert tally.classes.tolist() == [tally.n_tokens, 0, 0, 0]


def test_random_tokens_are_less_predictable() -> None:
    generator = np.random.default_rng(3)
    scorer = Scorer(lively_model(SHAPE), 1499, settle("sliding", 32), 2048, wanted=Wanted(1, RANK_BOUNDS, FRACTIONS))
    tally = RankTally(SHAPE.n_vocab)
    for window in scorer.score([[generator.integers(0, 1499, 500)]], Silent()):
        tally.add(window)
    assert tally.surprise is not None and tally.surprise > 10
    assert "less predictable" in comparison(tally)


def test_numbers_are_those_of_eval_ppl(gpt2_here: Callable, lively: Path, plays: Path, tmp_path: Path) -> None:
    files = []
    for play in sorted(plays.iterdir()):
        files.append(tmp_path / play.name)
        files[-1].write_text(play.read_text(encoding="utf-8")[: 500 + 700 * len(files)], encoding="utf-8")
    options = (*files, "--context", 24, "--stride", 7)
    theirs, ours = ([json.loads(line) for line in gpt2_here(*words, lively, *options, *more, check=True)
                     .stdout.splitlines()] for words, more in ((("eval-ppl",), ("--per-token", "--per-doc")),
                                                               (("detect", "show"), ("--json",))))
    assert ours[-1]["schema"] == "gpt2.end/1"
    ours = [record for record in ours if record["schema"] == "gpt2.gltr/1"]
    of_documents = [record for record in theirs if record["schema"] == "gpt2.eval-document/1"]
    assert len(ours) == len(of_documents) == 3
    for record, expected in zip(ours, of_documents, strict=True):
        assert (record["document"], record["id"], record["n_tokens"]) == (
            expected["document"], expected["id"], expected["n_tokens"])
        assert record["nll_nats_per_token"] == pytest.approx(expected["nll_nats_per_token"], rel=1e-12)
        tokens = [entry for entry in theirs if entry["schema"] == "gpt2.eval-token/1"
                  and entry["document"] == record["document"]]
        names = ("id", "text", "rank", "nll_nats", "entropy_nats")
        assert [[entry[name] for name in names] for entry in record["tokens"]] == [
            [entry[name] for name in names] for entry in tokens], "the same numbers to the last bit"
        counts = np.bincount(rank_classes(np.array([entry["rank"] for entry in tokens])), minlength=4)
        assert record["ranks"]["counts"] == counts.tolist()
        assert sum(record["p_of_max"]["counts"]) == sum(record["entropy_nats"]["counts"]) == record["n_tokens"]
    evaluated = theirs[-2]
    assert {name: ours[0][name] for name in ("model_sha256", "tokenizer_sha256", "protocol", "dtype")} == {
        name: evaluated[name] for name in ("model_sha256", "tokenizer_sha256", "protocol", "dtype")}


def test_the_likeliest_are_named_with_their_probabilities(orderly, tmp_path: Path, gpt2_here: Callable) -> None:
    directory, vocabulary = orderly
    (tmp_path / "t.txt").write_text("!A")
    record = json.loads(gpt2_here("detect", "show", directory, tmp_path / "t.txt", "--json", "--top", 3, check=True)
                        .stdout.splitlines()[0])
    p = np.exp(-0.01 * np.arange(1500))
    p /= p.sum()
    first, second = record["tokens"]
    assert [first["rank"], second["rank"]] == [vocabulary.ranks[b"!"] + 1, vocabulary.ranks[b"A"] + 1] == [1, 33]
    assert [entry["text"] for entry in second["top"]] == ["!", '"', "#"]
    assert [entry["p"] for entry in second["top"]] == pytest.approx(p[:3].tolist(), rel=1e-4)
    assert record["ranks"]["expected_shares"] == pytest.approx(
        [p[:10].sum(), p[10:100].sum(), p[100:1000].sum(), p[1000:].sum()], abs=1e-5)
    assert record["ranks"]["counts"] == [1, 1, 0, 0]


def test_a_long_text_is_counted_whole_shown_in_part_and_never_held(lively: Path, tmp_path: Path) -> None:
    peaks = []
    for size in (6_000, 24_000):
        path = tmp_path / f"{size}.txt"
        path.write_text(("To be, or not to be. " * (size // 21 + 1))[:size])
        sink = Kept()
        tracemalloc.start()
        config = RankConfig(ModelChoice(str(lively)), (str(path),), batch=1, max_tokens=100)
        total = rank_texts(config, [sink], Silent())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        (document,) = sink.documents
        assert sink.calls == ["begin", "document", "end 1"]
        assert len(document.tokens) == 100 < document.tally.n_tokens == total.n_tokens
        assert total.classes.sum() == total.n_tokens > size / 4
    assert peaks[1] < 1.5 * peaks[0], "four times the text must not take more memory"


def test_classes_are_gltrs() -> None:
    assert rank_classes(np.array([1, 10, 11, 100, 101, 1000, 1001, 50257])).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_model_that_is_certain_has_no_surprise() -> None:
    tally = RankTally(10)
    tally.n_tokens = 3
    assert tally.surprise is None
    assert "certain of every token" in comparison(tally)


def test_what_cannot_be_shown_is_refused(lively: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BadInput, match="no text to show"):
        rank_texts(RankConfig(ModelChoice(str(lively)), (str(tmp_path / "empty"),)), [], Silent())
    with pytest.raises(UsageFault, match="does not fit the model"):
        rank_texts(RankConfig(ModelChoice(str(lively)), (str(tmp_path / "empty"),), context=99), [], Silent())
