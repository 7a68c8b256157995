from __future__ import annotations

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.sizes import (
    ALIASES,
    SIZES,
    ModelShape,
    activation_bytes,
    default_heads,
    size_by_name,
    train_memory,
)

PUBLISHED = {"small": 124_439_808, "medium": 354_823_168, "large": 774_030_080, "xl": 1_557_611_200}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_sizes_have_the_published_counts(name: str, count: int) -> None:
    shape = SIZES[name]
    assert shape.n_params == count
    assert shape.n_params_non_embedding == count - (50_257 + 1024) * shape.n_embd
    assert shape.n_embd // shape.n_head == 64


def test_every_alias_names_a_size() -> None:
    for alias, name in ALIASES.items():
        assert size_by_name(alias) == (name, SIZES[name])
    assert size_by_name("xl") == ("xl", SIZES["xl"])


def test_an_unknown_size_is_a_usage_fault_that_lists_the_known() -> None:
    with pytest.raises(UsageFault, match="small, medium, large, xl"):
        size_by_name("huge")


@pytest.mark.parametrize("numbers", [(0, 1, 8), (1, 0, 8), (1, 3, 8), (1, 1, 8, 0), (1, 1, 8, 8, 0)])
def test_shapes_that_are_none_are_usage_faults(numbers: tuple[int, ...]) -> None:
    with pytest.raises(UsageFault):
        ModelShape(*numbers)


def test_flops_of_training_are_six_a_parameter_and_the_attention() -> None:
    shape = SIZES["small"]
    matrices = 12 * 12 * 768**2 + 50_257 * 768
    assert shape.train_flops_per_token() == 6 * matrices + 6 * 12 * 1024 * 768
    assert 6 * shape.n_params < shape.train_flops_per_token() < 7 * shape.n_params


def test_another_context_and_vocabulary_change_the_embeddings_alone() -> None:
    other = SIZES["small"].with_data(n_ctx=256, n_vocab=512)
    assert (other.n_ctx, other.n_vocab, other.n_layer) == (256, 512, 12)
    assert other.n_params_non_embedding == SIZES["small"].n_params_non_embedding


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (128, 2), (64, 1), (32, 1), (96, 3), (20, 5), (7, 1)])
def test_ladder_widths_get_heads_that_divide_them(width: int, heads: int) -> None:
    assert default_heads(width) == heads
    assert width % heads == 0


def test_training_memory_is_sixteen_bytes_a_parameter_and_the_activations() -> None:
    memory = train_memory(SIZES["small"], 4, 2, 512)
    assert memory.total - memory.activations == 16 * SIZES["small"].n_params
    assert memory.activations == activation_bytes(SIZES["small"], 4, 2, 512)
    assert activation_bytes(SIZES["small"], 8, 2, 512) > 1.9 * activation_bytes(SIZES["small"], 4, 2, 512) - 10**9
