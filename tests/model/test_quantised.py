"""Quantised weights are the nearest of their grid, are multiplied as stored, and a hostile file is one sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import lively_model

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.model.decoder import Decoder
from gpt2cli.model.integer_linear import Int4Linear, Int8Linear, Int8Table, widen_int4
from gpt2cli.model.quantised import Quantisation, eight_bits, four_bits, layout, quantise, widened
from gpt2cli.model.quantised_files import KEY, QUANTISED
from gpt2cli.model.weights import load_model, read_weights, save_weights, weights_sha256, write_tensors
from gpt2cli.records.provenance import file_sha256
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(2, 2, 32, 24, 301)
MODEL = lively_model(SHAPE)
FORMS = [Quantisation(8), Quantisation(4, 32)]
IDS = torch.randint(301, (2, 24), generator=torch.Generator().manual_seed(0))


def save_quantised(directory: Path, form: Quantisation) -> Path:
    """Write a quantised model's directory by hand."""
    directory.mkdir()
    save_weights(MODEL.state_dict(), SHAPE, 300, directory)
    (directory / "model.safetensors").unlink()
    edit_config(directory, {"bits": form.bits, "group_size": form.group})
    write_tensors(quantise(MODEL.state_dict(), SHAPE, form), directory / QUANTISED)
    return directory


def edit_config(directory: Path, said: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {KEY: said}))


def test_eight_bits_are_the_nearest_of_127_steps() -> None:
    w = torch.randn(48, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    w[3], w[4, 5] = 0, 900.0
    q, scale = eight_bits(w)
    error = (q.float() * scale.float()[:, None] - w).abs()
    assert (error <= scale.float()[:, None] * 0.51 + w.abs() / 250).all()  # the largest meets a scale rounded to bf16
    assert torch.equal(q[3], torch.zeros(64, dtype=torch.int8))


@pytest.mark.parametrize("group", [32, 64])
def test_four_bits_beat_the_plain_range_of_every_group(group: int) -> None:
    w = torch.randn(48, 128, generator=torch.Generator().manual_seed(2))
    w[7], w[8] = 0, 3.25
    found = widen_int4(*four_bits(w, group))
    grouped = w.view(48, -1, group)
    low, high = grouped.amin(2, keepdim=True), grouped.amax(2, keepdim=True)
    step = ((high - low) / 15).clamp_min(1e-9)
    plain = (((grouped - low) / step).round() * step + low).view(48, 128)
    assert ((found - w).square().sum(1) <= (plain - w).square().sum(1) * 1.02 + 1e-4).all()
    assert (found - w).square().mean() < 0.95 * (plain - w).square().mean()
    assert torch.equal(found[8], w[8]) and torch.equal(found[7], w[7])


@pytest.mark.parametrize("rows", [1, 5, 40, 200])
def test_the_int4_kernel_multiplies_the_widened_weights(rows: int) -> None:
    """Few rows go to the kernel, many to bf16; both within bf16's rounding of fp64."""
    generator = torch.Generator().manual_seed(3)
    w, x, bias = (torch.randn(*size, generator=generator) for size in ((96, 64), (rows, 64), (96,)))
    kernel = Int4Linear(*(four := four_bits(w, 32)), bias)
    expected = x.bfloat16().double() @ widen_int4(*four).double().T + bias
    error = (kernel.infer(x).double() - expected).abs()
    assert error.max() < 0.3 and error.square().mean().sqrt() < 0.04  # of sums of size 8
    gelu = torch.nn.functional.gelu(expected, approximate="tanh")
    assert (kernel.infer(x, gelu=True).double() - gelu).abs().max() < 0.3


@pytest.mark.parametrize("rows", [1, 5, 40, 200])
def test_the_int8_kernel_is_as_near_as_activations_in_15_bits(rows: int) -> None:
    generator = torch.Generator().manual_seed(3)
    w, x, bias = (torch.randn(*size, generator=generator) for size in ((96, 64), (rows, 64), (96,)))
    x *= 10.0 ** torch.linspace(-6, 6, rows)[:, None]  # every row has a scale of its own
    q, scale = eight_bits(w)
    exact = x.double() @ (q.double() * scale.double()[:, None]).T
    error = (Int8Linear(q, scale, None).infer(x).double() - exact).abs()
    step = x.abs().amax(1, keepdim=True).double() / 2**15
    assert (error <= step * 16).all()  # 64 roundings of half a step, weights of size 1
    assert error.div(step).square().mean().sqrt() < 4, "of 2.3 expected"
    kernel = Int8Linear(q, scale, bias)
    mapped = kernel.infer(x)
    assert torch.equal(kernel.infer(x, gelu=True), torch.nn.functional.gelu(mapped, approximate="tanh"))
    torch.testing.assert_close(mapped.double(), exact + bias, rtol=1e-6, atol=float(step.max()) * 16)


def test_the_int8_kernel_takes_every_value_of_both_operands() -> None:
    """Bytes at their ends: -127 to 127 in W, the largest activation to either side, 3,072 inputs that all add up."""
    q = torch.tensor([-127, 127, -1, 0], dtype=torch.int8)[:, None].repeat(1, 3072)
    kernel = Int8Linear(q, torch.ones(4), None)
    for value in (1.0, -1.0, 3e38 / 3072 / 128):
        expected = torch.tensor([-127.0, 127.0, -1.0, 0.0]) * 3072 * value
        torch.testing.assert_close(kernel.infer(torch.full((1, 3072), value))[0], expected, rtol=1e-6, atol=0)
    assert torch.equal(kernel.infer(torch.zeros(1, 3072)), torch.zeros(1, 4))
    x = torch.zeros(3, 3072)
    x[0, 1], x[1, 5] = torch.inf, torch.nan
    assert torch.equal(kernel.infer(x)[:2].isfinite(), torch.zeros(2, 4, dtype=torch.bool))
    assert torch.equal(kernel.infer(x)[2], torch.zeros(4)), "no row touches another"
    turned = torch.randn(3072, 3, generator=torch.Generator().manual_seed(1)).T
    assert torch.equal(kernel.infer(turned), kernel.infer(turned.contiguous()))


def test_integers_that_are_not_aligned_in_memory_do_not_fault() -> None:
    """A mapped file does not promise alignment."""
    memory = torch.zeros(96 * 32 + 64, dtype=torch.int8)
    for offset in (1, 2, 8, 33):
        q = memory[offset : offset + 96 * 32].view(96, 32)
        assert Int8Linear(q, torch.ones(96), None).infer(torch.ones(6, 32)).abs().max() == 0


def test_the_table_looks_up_and_multiplies_its_rows() -> None:
    w = torch.randn(301, 32, generator=torch.Generator().manual_seed(4)) + 5
    mean = w.mean(0)
    q, scale = eight_bits(w - mean)
    table = Int8Table(q, scale, mean)
    stored = q.float() * scale.float()[:, None]
    ids = torch.tensor([[0, 300], [7, 7]])
    assert torch.equal(table(ids), stored[ids])
    x = torch.randn(2, 1, 32)
    torch.testing.assert_close(table.logits(x), x @ (stored + mean).T, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_quantised_model_runs_widened_and_in_integers(tmp_path: Path, form: Quantisation) -> None:
    directory = save_quantised(tmp_path / "q", form)
    exact = load_model(directory)
    assert (exact.quantisation, exact.integer) == (form, False)
    by_hand = widened(load_file(directory / QUANTISED), form)
    assert all(torch.equal(tensor, by_hand[name]) for name, tensor in exact.model.state_dict().items())
    assert all((by_hand[name] - tensor).abs().max() < 0.2 for name, tensor in MODEL.state_dict().items())
    integer = load_model(directory, prefer_integer=True)
    assert (integer.quantisation, integer.integer) == (form, True)
    with torch.inference_mode():
        expected = exact.model.logits(exact.model(IDS))
        decoder = Decoder(integer.model)
        cache = decoder.cache(2, 24)
        found = decoder.logits(torch.cat([decoder.read(IDS[:, start : start + 3], cache) for start in range(0, 24, 3)],
                                         dim=1))
    assert (found - expected).square().mean().sqrt() < 0.03 * expected.std()
    assert weights_sha256(directory) == file_sha256(directory / QUANTISED)


def test_quantising_is_deterministic_and_fills_the_layout() -> None:
    for form in FORMS:
        once, again = quantise(MODEL.state_dict(), SHAPE, form), quantise(MODEL.state_dict(), SHAPE, form)
        kinds = {torch.int8: "I8", torch.uint8: "U8", torch.bfloat16: "BF16", torch.float32: "F32"}
        assert {name: (kinds[t.dtype], list(t.shape)) for name, t in once.items()} == layout(SHAPE, form)
        assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize(("form", "words"), [
    (Quantisation(5), "5 bits a weight"), (Quantisation(4, 48), "no groups of 48"),
    (Quantisation(4), "no groups of None"), (Quantisation(8, 32), "a group size is for 4 bits"),
    (Quantisation(4, 64), "do not divide the model's width of 32"),
])
def test_forms_that_do_not_fit_are_usage_faults(form: Quantisation, words: str) -> None:
    with pytest.raises(UsageFault, match=words):
        form.check(SHAPE)


def _change(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        tensors = load_file(directory / QUANTISED)
        change(tensors)
        save_file(tensors, directory / QUANTISED)

    return apply


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda directory: (directory / QUANTISED).write_bytes(data) and None


HOSTILE: list[tuple[Callable[[Path], None], str]] = [
    (_change(lambda t: t["h.0.attn.c_attn.scale"].fill_(float("nan"))), "h.0.attn.c_attn.scale holds values that are"),
    (_change(lambda t: t["wte.mean"].fill_(float("inf"))), "wte.mean holds values that are not finite"),
    (_change(lambda t: t["h.1.ln_1.bias"].fill_(float("nan"))), "h.1.ln_1.bias holds values that are not finite"),
    (_change(lambda t: t.update({"wte.q": t["wte.q"][:300].contiguous()})), "wte.q is 'I8' of shape"),
    (_change(lambda t: t.update({"wte.q": t["wte.q"].float()})), "wte.q is 'F32' of shape"),
    (_change(lambda t: t.pop("h.1.mlp.c_fc.q")), "lacks h.1.mlp.c_fc.q"),
    (_change(lambda t: t.update({"\x1b[31mred\n": torch.zeros(1)})), r"'\x1b[31mred\n'"),
    (_bytes(b""), "its header claims"),
    (_bytes(struct.pack("<Q", 100_000_000) + b"{" * 1000), "its header claims 100000000"),
    (_bytes(b"\x80\x04\x95" + b"\0" * 64), "is no sound safetensors file"),
    (_bytes(struct.pack("<Q", 4) + b"null"), "is no table"),
    (lambda directory: (directory / QUANTISED).unlink(), "has no quantised.safetensors"),
    (lambda directory: edit_config(directory, {"bits": 4, "group_size": 32}), "config.json asks for"),
    (lambda directory: edit_config(directory, {"bits": 3, "group_size": None}), "3 bits a weight is not offered"),
    (lambda directory: edit_config(directory, {"bits": 4, "group_size": 0}), "no groups of 0"),
    (lambda directory: edit_config(directory, {"bits": "8"}), "is no table of bits and group_size"),
    (lambda directory: edit_config(directory, [8]), "is no table of bits and group_size"),
]


@pytest.mark.parametrize(("damage", "words"), HOSTILE)
def test_a_damaged_or_hostile_file_is_one_sentence(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    directory = save_quantised(tmp_path / "q", Quantisation(8))
    damage(directory)
    with pytest.raises((BadInput, UsageFault)) as raised:
        load_model(directory)
    assert words in str(raised.value) and "\n" not in str(raised.value) and "\x1b" not in str(raised.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=40))
def test_only_our_errors_escape_any_damage(tmp_path: Path, at: int, piece: bytes) -> None:
    directory = tmp_path / "q"
    if not directory.exists():
        save_quantised(directory, Quantisation(4, 32))
        (tmp_path / "sound").write_bytes((directory / QUANTISED).read_bytes())
    data = bytearray((tmp_path / "sound").read_bytes())
    data[at : at + len(piece)] = piece
    (directory / QUANTISED).write_bytes(data)
    try:
        load_model(directory)
    except Gpt2Error as error:
        assert "\n" not in str(error)


def test_quantised_weights_are_no_weights_to_train_from(tmp_path: Path) -> None:
    directory = save_quantised(tmp_path / "q", Quantisation(8))
    with pytest.raises(UsageFault, match="holds quantised weights"):
        read_weights(directory / "model.safetensors", SHAPE)
