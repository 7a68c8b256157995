"""Trunks, branches and shared prefixes give what each request gives alone, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import lively_model, small_vocabulary

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.evaluation.branches import Row, branched_states, read_prefix
from gpt2cli.evaluation.task import Request
from gpt2cli.evaluation.task_requests import EncodedRequest, RequestEncoder
from gpt2cli.evaluation.task_scoring import LikelihoodScorer
from gpt2cli.evaluation.task_trees import grow, with_shared_prefixes
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.reporter import Silent
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.encode import Encoder

N_CTX = 64


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively_model(ModelShape(2, 2, 16, N_CTX, 500))


@torch.inference_mode()
def alone(model: GPT2, request: EncodedRequest) -> tuple[float, bool]:
    """The plain way: one sequence, the whole softmax in fp64."""
    ids = torch.from_numpy(request.ids.astype(np.int64))
    logits = model.logits(model(ids[None, :-1]))[0, -request.scored :].double()
    target = ids[-request.scored :]
    nats = logits.log_softmax(1).gather(1, target[:, None]).sum()
    return float(nats), bool((logits.argmax(1) == target).all())


def groups(seed: int, *, shared: int = 0) -> list[list[EncodedRequest]]:
    """Items of choices of many lengths; with `shared` ids that all items begin with."""
    random = np.random.default_rng(seed)
    draw = lambda count: random.integers(0, 499, count).astype(np.uint32)  # noqa: E731
    prefix, found = draw(shared), []
    for _ in range(12):
        context = np.concatenate([prefix, draw(random.integers(1, 8))])
        sizes = random.integers(1, 10, random.integers(1, 6)).tolist()
        found.append([EncodedRequest(np.concatenate([context, draw(size)]), size, 0) for size in sizes])
    found.append([EncodedRequest(draw(N_CTX + 1), 3, 5), EncodedRequest(draw(N_CTX + 1), 1, 7)])
    found.append([found[0][0]])
    return found


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("budget", [1, 50, 300, 100_000])
def test_every_batch_size_gives_what_a_request_gives_alone(model: GPT2, budget: int, shared: int) -> None:
    asked = groups(4, shared=shared)
    told: list[int] = []
    found = LikelihoodScorer(model, budget, Silent()).score(asked, told.append)
    for group, answers in zip(asked, found, strict=True):
        for request, answer in zip(group, answers, strict=True):
            nats, greedy = alone(model, request)
            assert answer.nats == pytest.approx(nats, rel=2e-6)
            assert answer.greedy == greedy
    assert sum(told) == sum(map(len, asked)) - 1, "equal requests are computed once"


def test_one_prefix_is_read_once_for_all_items(model: GPT2) -> None:
    trees = [tree for number, group in enumerate(groups(5, shared=40)[:12])
             for tree in grow(group, range(100 * number, 100 * number + len(group)), 96)]
    ((prefix, rest),) = with_shared_prefixes(trees)
    assert len(prefix) == 40 and len(rest) == len(trees)
    assert {tree.row.start for tree in rest} == {40}
    assert sum(tree.row.length for tree in rest) < sum(tree.row.length for tree in trees) - 40 * 11


def test_a_row_with_one_token_choices_has_no_branches() -> None:
    context = np.arange(10, dtype=np.uint32)
    requests = [EncodedRequest(np.append(context, np.uint32(choice)), 1, 0) for choice in (50, 60, 70, 80)]
    (tree,) = grow(requests, range(4), 96)
    assert (tree.row.length, tree.row.branches) == (10, ())
    assert [places.tolist() for places in tree.places] == [[9]] * 4


def test_long_branches_are_divided_between_rows() -> None:
    requests = [EncodedRequest(np.append(np.arange(20), np.full(30, choice)).astype(np.uint32), 30, 0)
                for choice in range(100, 105)]
    trees = list(grow(requests, range(5), 80))
    assert [len(tree.requests) for tree in trees] == [2, 2, 1]
    assert all(tree.row.length <= 80 for tree in trees)


def test_states_of_branches_are_those_of_sequences(model: GPT2) -> None:
    trunk, first, second = (np.arange(*span, dtype=np.uint32) for span in ((3, 9), (40, 44), (60, 67)))
    rows = [Row(trunk, (first, second)), Row(second)]
    states = branched_states(model, rows, None, np.arange(2 * rows[0].length))
    with torch.inference_mode():
        for branch, start in ((first, 6), (second, 10)):
            whole = model(torch.from_numpy(np.concatenate([trunk, branch]).astype(np.int64))[None])[0]
            torch.testing.assert_close(states[start : start + len(branch)], whole[6:], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(states[17:24], model(torch.from_numpy(second.astype(np.int64))[None])[0],
                                   rtol=1e-5, atol=1e-5)
    prefix = read_prefix(model, trunk[:4])
    beyond = branched_states(model, [Row(trunk[4:], (first, second), 4)], prefix, np.arange(13))
    torch.testing.assert_close(beyond, states[4:17], rtol=1e-5, atol=1e-5)


def test_weights_that_are_not_sound_are_an_error(model: GPT2) -> None:
    broken = lively_model(model.shape)
    with torch.no_grad():
        broken.wte.weight[7] = float("nan")
    with pytest.raises(BadInput, match="no finite probability"):
        LikelihoodScorer(broken, 100, Silent()).score(groups(1))


def test_a_wish_to_stop_is_obeyed(model: GPT2) -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        LikelihoodScorer(model, 100, Stopping()).score(groups(1))


def test_white_space_moves_and_what_is_too_long_goes_from_the_left() -> None:
    encoder = Encoder(small_vocabulary())
    encode = RequestEncoder(encoder, 16).encode
    words = encode(Request("To be  \n", " or"), "x")
    assert words.ids.tolist() == encoder.encode("To be  \n or").tolist()
    assert words.scored == len(encoder.encode("To be  \n or")) - len(encoder.encode("To be"))
    for context in ("", " \n"):
        nothing = encode(Request(context, "or"), "x")
        assert nothing.ids.tolist() == [encoder.vocabulary.eot, *encoder.encode(context + "or").tolist()]
    long = encode(Request("a," * 20, " to be"), "x")
    whole = encoder.encode("a," * 20 + " to be").tolist()
    assert (long.ids.tolist(), long.scored, long.dropped) == (whole[-17:], len(whole) - 40, len(whole) - 17)
    with pytest.raises(BadInput, match=r"^line 4: .*more than the 16 positions"):
        encode(Request("a", "b " * 17), "line 4")
    with pytest.raises(BadInput, match="no token of its own"):
        encode(Request("a", ""), "x")
    plain = encode(Request("<|endoftext|>", "a"), "x")
    assert encoder.vocabulary.eot not in plain.ids
