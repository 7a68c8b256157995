"""Attention within documents against transformers run on each document alone; recomputed blocks against kept ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny_models import lively_model
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.model.document_mask import document_mask
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(3, 4, 32, 24, 50)
EOT = 49


def test_the_mask_is_causal_and_a_separator_begins_its_document() -> None:
    ids = torch.tensor([[1, 2, EOT, 3, EOT, EOT]])
    allowed = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0],
               [0, 0, 0, 0, 0, 1]]
    assert document_mask(ids, EOT)[0, 0].int().tolist() == allowed


def test_a_window_of_documents_is_each_document_alone_in_transformers() -> None:
    model = lively_model(SHAPE)
    model.separator = EOT
    theirs = GPT2LMHeadModel(GPT2Config(n_layer=3, n_head=4, n_embd=32, n_positions=24, vocab_size=50, resid_pdrop=0.0,
                                        embd_pdrop=0.0, attn_pdrop=0.0)).eval()
    theirs.transformer.load_state_dict(model.state_dict())
    ids = torch.randint(EOT, (2, 24), generator=torch.Generator().manual_seed(2))
    ids[0, [5, 6, 17]] = EOT
    ids[1, 23] = EOT
    logits = model.logits(model(ids))
    for row in range(2):
        starts = [0, *(int(at) for at in (ids[row] == EOT).nonzero()), 24]
        for start, stop in itertools.pairwise(starts):
            if start == stop:
                continue
            positions = torch.arange(start, stop)[None]
            expected = theirs(ids[row : row + 1, start:stop], position_ids=positions).logits[0]
            torch.testing.assert_close(logits[row, start:stop], expected, rtol=1e-4, atol=1e-5)
    model.separator = None
    assert not torch.allclose(model.logits(model(ids))[0, 17:], logits[0, 17:], atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("separator", [None, EOT])
def test_recomputed_blocks_give_the_same_bits(dropout: float, separator: int | None) -> None:
    ids = torch.randint(50, (2, 24), generator=torch.Generator().manual_seed(2))

    def gradients(recompute: bool) -> list[torch.Tensor]:
        model = GPT2(SHAPE, dropout).train()
        model.initialise(5)
        model.recompute, model.separator = recompute, separator
        torch.manual_seed(11)
        torch.nn.functional.cross_entropy(model.logits(model(ids)).flatten(0, 1), ids.flatten()).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    for kept, recomputed in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(kept, recomputed)


def test_recomputing_keeps_a_blocks_input_alone() -> None:
    ids = torch.randint(50, (2, 24))
    held = {}
    for recompute in (False, True):
        model = GPT2(SHAPE).train()
        model.initialise(5)
        model.recompute = recompute
        seen: dict[int, int] = {}

        def keep(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(ids)
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        held[recompute] = sum(size for pointer, size in seen.items() if pointer not in weights)
    assert held[True] < held[False] / 3
