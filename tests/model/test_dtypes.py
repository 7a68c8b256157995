"""What each dtype computes: fp32 is transformers' network to 1e-4, fp16 stays within 5e-3 of it, whatever the rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from gpt2cli.errors import UsageFault
from gpt2cli.model import gpt2, linear
from gpt2cli.model.decoder import Decoder
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.narrow import narrowed
from gpt2cli.model.weights import load_model, save_weights
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(4, 4, 256, 160, 5000)
PROMPT = tuple(torch.randint(5000, (20,), generator=torch.Generator().manual_seed(1)).tolist())
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's own initialisation, made livelier: norms and biases that show, logits that share a large part."""
    model = GPT2(SHAPE)
    model.initialise(3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
            elif name.startswith("h."):
                parameter.mul_(2)
        model.wte.weight.add_(torch.randn(256, generator=generator) * 0.3)
    place = tmp_path_factory.mktemp("model") / "m"
    place.mkdir()
    save_weights(model.state_dict(), SHAPE, 4999, place)
    return place


@pytest.fixture(scope="module")
def greedy(directory: Path) -> tuple[list[int], torch.Tensor]:
    """128 greedy ids of transformers after PROMPT, and the logits (128, V) that they were chosen from."""
    theirs = GPT2LMHeadModel.from_pretrained(directory).eval()
    made = theirs.generate(torch.tensor([PROMPT]), max_new_tokens=128, do_sample=False, eos_token_id=None,
                           pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    return made.sequences[0, len(PROMPT) :].tolist(), torch.cat(made.logits)


def walk(model: GPT2, ids: list[int], rows: int) -> torch.Tensor:
    """Return the logits (T, V) before each of `ids` after PROMPT, decoded one at a time in `rows` equal rows."""
    decoder = Decoder(model)
    cache = decoder.cache(rows, SHAPE.n_ctx)
    found = [decoder.logits(decoder.begin([PROMPT] * rows, cache))[-1]]
    found += [decoder.logits(decoder.read(torch.full((rows, 1), token), cache)[:, -1])[-1] for token in ids[:-1]]
    return torch.stack(found)


@pytest.mark.parametrize("rows", [1, 8])
def test_fp32_is_transformers_to_1e_4_and_the_same_128_greedy_ids(
    directory: Path, greedy: tuple[list[int], torch.Tensor], rows: int
) -> None:
    ids, expected = greedy
    found = walk(load_model(directory).model, ids, rows)
    assert (found - expected).abs().max() < 1e-4
    assert found.argmax(1).tolist() == ids


@pytest.mark.parametrize("wrong", ["erf GELU", "eps"])
def test_1e_4_sees_a_wrong_gelu_or_eps(
    directory: Path, greedy: tuple[list[int], torch.Tensor], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tolerance above would catch them: the test that follows transformers can fail."""
    model = load_model(directory).model
    if wrong == "eps":
        monkeypatch.setattr("gpt2cli.model.decoder.LAYER_NORM_EPS", 1e-6)
    else:
        def with_erf(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, gelu: bool = False,
                     ) -> torch.Tensor:
            y = torch.nn.functional.linear(x, weight, bias)
            return torch.nn.functional.gelu(y) if gelu else y

        monkeypatch.setattr(gpt2, "linear", with_erf)
    found = walk(model, greedy[0][:20], 1)
    assert (found - greedy[1][:20]).abs().max() > 1e-4


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_fp16_stays_within_5e_3_and_picks_the_same_where_the_gap_is_clear(
    directory: Path, greedy: tuple[list[int], torch.Tensor], rows: int
) -> None:
    ids, expected = greedy
    found = walk(load_model(directory, dtype=torch.float16).model, ids, rows)
    assert found.dtype == torch.float32
    assert (found - expected).square().mean().sqrt() < 5e-3
    two = expected.topk(2, dim=1).values
    clear = two[:, 0] - two[:, 1] > 0.05
    assert clear.sum() > 20
    assert torch.equal(found.argmax(1)[clear], expected.argmax(1)[clear])


def test_what_all_logits_share_is_not_rounded_in_bf16(directory: Path, greedy: tuple[list[int], torch.Tensor]) -> None:
    """Logits of the published weights are near -100, where bf16 steps by a half; here they share a part too."""
    ids, expected = greedy
    theirs = GPT2LMHeadModel.from_pretrained(directory, dtype=torch.bfloat16).eval()
    with torch.inference_mode():
        rounded = theirs(torch.tensor([[*PROMPT, *ids[:-1]]])).logits[0, len(PROMPT) - 1 :].float()
    found = walk(load_model(directory, dtype=torch.bfloat16).model, ids, 1)
    ours, others = ((logits - expected).square().mean().sqrt() for logits in (found, rounded))
    assert ours < 0.05 and ours < others / 1.5


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_norms_positions_and_results_are_fp32(directory: Path, dtype: str) -> None:
    model = load_model(directory, dtype=DTYPES[dtype]).model
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    for name, kind in kinds.items():
        plain = name == "wpe.weight" or "ln_" in name
        assert kind == (torch.float32 if plain else DTYPES[dtype]), name
    assert walk(model, [1, 2], 1).dtype == torch.float32


def test_a_weight_that_fp16_cannot_hold_is_a_usage_fault(directory: Path) -> None:
    tensors = load_model(directory).model.state_dict()
    tensors["h.0.mlp.c_fc.weight"][0, 0] = 1e5
    with pytest.raises(UsageFault, match=r"h\.0\.mlp\.c_fc\.weight holds 1e\+05, too large for fp16"):
        narrowed(tensors, torch.float16, torch.device("cpu"))


def test_weights_whose_sum_alone_is_too_large_are_narrowed(directory: Path) -> None:
    tensors = load_model(directory).model.state_dict()
    tensors["wte.weight"].fill_(1e38)
    placed, mean_C = narrowed(tensors, torch.bfloat16, torch.device("cpu"))
    assert torch.allclose(mean_C, torch.full_like(mean_C, 1e38)) and bool(torch.isfinite(placed["wte.weight"]).all())


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_the_kernel_changes_with_the_rows_and_the_product_does_not(rows: int, dtype: str) -> None:
    generator = torch.Generator().manual_seed(6)
    x, w, bias = (torch.randn(*size, generator=generator) for size in ((rows, 64), (64, 48), (48,)))
    kind = DTYPES[dtype]
    weight = w.to(kind).T.contiguous().T if dtype == "fp16" else w.to(kind)
    exact = x.to(kind).double() @ weight.double() + bias.to(kind).double()
    with torch.inference_mode():
        found = linear.linear(x, weight.T, bias.to(kind))
    scale = {"fp32": 1e-5, "fp16": 0.02, "bf16": 0.15}[dtype]
    assert (found.double() - exact).abs().max() < scale
