from __future__ import annotations

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.training.config import TrainOptions, named_shape, resolve

TOKENS = 100_000_000


def config(**options: object):  # type: ignore[no-untyped-def]
    return resolve(TrainOptions(**options), n_vocab=50_257, train_tokens=TOKENS, native_bf16=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "lr"), [("small", 6e-4), ("medium", 3e-4), ("large", 2.5e-4), ("xl", 2e-4)])
def test_the_published_sizes_have_the_agreed_recipe(size: str, lr: float) -> None:
    made = config(size=size)
    assert (made.lr, made.batch_tokens, made.n_ctx, made.clip) == (lr, 524_288, 1024, 1.0)
    assert (made.beta1, made.beta2, made.weight_decay, made.dropout) == (0.9, 0.95, 0.1, 0.0)
    assert made.lr_floor == pytest.approx(lr / 10)
    assert made.steps == (TOKENS - 1) // 1024 * 1024 // 524_288
    assert made.warmup_steps == 10  # 5 % of 190 steps, rounded up


def test_recipe_gpt_is_the_first_gpts() -> None:
    made = config(recipe="gpt", steps=50_000)
    assert (made.lr, made.warmup_steps, made.weight_decay, made.dropout) == (2.5e-4, 2000, 0.01, 0.1)


def test_micro_batch_is_a_function_of_the_configuration_and_divides_nothing_else() -> None:
    first, second = config(), config(seed=7, lr=1e-3)
    assert first.micro_batch == second.micro_batch
    assert config(micro_batch=2).batch_tokens == first.batch_tokens


def test_rows_of_best_fit_fit_one_context() -> None:
    def context(asked: int | None, packed: int | None) -> int:
        return resolve(TrainOptions(context=asked), n_vocab=300, train_tokens=TOKENS, native_bf16=False,
                       packed_context=packed).n_ctx

    assert [context(None, None), context(512, None), context(None, 256), context(256, 256)] == [1024, 512, 256, 256]
    with pytest.raises(UsageFault, match="packed in rows for a context of 256, and --context is 512"):
        context(512, 256)


def test_auto_dtype_follows_the_hardware() -> None:
    for native, dtype in ((True, "bf16"), (False, "fp32")):
        assert resolve(TrainOptions(), n_vocab=300, train_tokens=TOKENS, native_bf16=native).dtype == dtype


def test_equal_runs_have_equal_names_and_any_change_another() -> None:
    assert config().run_name("d") == config().run_name("d")
    assert len({config().run_name("d"), config().run_name("e"), config(seed=1).run_name("d")}) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_tokens": 1000}, "multiple of the context"),
        ({"steps": 5, "tokens": 5}, "not both"),
        ({"size": "huge"}, "no size 'huge'"),
        ({"size": "small", "layers": 2, "embd": 8}, "not both"),
        ({"layers": 2}, "go together"),
        ({"layers": 2, "embd": 10, "heads": 3}, "does not divide"),
        ({"batch_tokens": 2048, "micro_batch": 3}, "more than the 2 sequences"),
        ({"tokens": 1000}, "less than one batch"),
        ({"steps": 10, "warmup": 10}, "smaller --warmup"),
        ({"context": 200_000_000}, "too few for a context"),
    ],
)
def test_options_that_do_not_fit_are_told_in_a_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageFault, match=words):
        config(**options)


def test_ladder_names_are_their_configuration() -> None:
    assert named_shape(TrainOptions(layers=4, embd=128))[0] == "l4-e128"
    assert named_shape(TrainOptions(layers=4, embd=128))[1].n_head == 2
    assert named_shape(TrainOptions(layers=4, embd=128, heads=4))[0] == "l4-e128-h4"
    assert named_shape(TrainOptions(size="gpt2-xl"))[0] == "xl"
