from __future__ import annotations

from dataclasses import replace

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.sizes import SIZES, ModelShape
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.layout import Layout, layers_of_stages, parse_layout


def config(micro_batch: int = 4, **options: object) -> TrainConfig:
    """Sixteen sequences a step, in four micro-batches."""
    asked = TrainOptions(layers=2, embd=32, heads=2, context=64, batch_tokens=1024, micro_batch=micro_batch, steps=4)
    return resolve(replace(asked, **options), n_vocab=512, train_tokens=1 << 16, native_bf16=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(("how", "expected"), [
    (None, None), ("tp=1", None), ("pp=1", None), ("tp=1,pp=1", None),
    ("fsdp", (8, 1, 1)), ("tp=2", (4, 1, 2)), ("pp=4", (2, 4, 1)), ("pp=2,tp=2", (2, 2, 2)), ("tp=2,fsdp", (4, 1, 2)),
    ("fsdp,pp=2,tp=2", (2, 2, 2)),
])
def test_what_is_asked_for(how: str | None, expected: tuple[int, int, int] | None) -> None:
    layout = parse_layout(how, 8)
    assert expected == (layout and (layout.replicas, layout.stages, layout.width))
    assert layout is None or layout.sharded == ("fsdp" in str(how))


@pytest.mark.parametrize(("world", "how", "said"), [
    (2, "ddp", "no --parallel 'ddp'; there are fsdp, tp=N, pp=N and several of them with commas between"),
    (2, "tp=x", "no --parallel 'tp=x'"), (2, "tp=", "no --parallel"), (2, "pp=0", "no --parallel"),
    (2, "fsdp=2", "no --parallel"), (2, "pp=2,pp=2", "no --parallel 'pp=2,pp=2'"), (2, "", "no --parallel ''"),
    (2, "pp=²", "no --parallel"), (2, "pp=99999999999999", "no --parallel"),
    (1, "fsdp", "--parallel fsdp divides a model among ranks, and this process is alone"),
    (2, "tp=4", "--parallel tp=4 takes a multiple of 4 ranks, not 2"),
    (6, "pp=2,tp=2", "--parallel pp=2,tp=2 takes a multiple of 4 ranks, not 6"),
    (4, "fsdp,pp=2,tp=2", "--parallel fsdp,pp=2,tp=2 leaves fsdp nothing to divide on 4 ranks"),
])
def test_what_cannot_be_asked_for(world: int, how: str, said: str) -> None:
    with pytest.raises(UsageFault) as caught:
        parse_layout(how, world)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("world", "how", "options", "said"), [
    (3, "tp=3", {}, "--parallel tp=3 splits the heads, and 2 cannot be divided so"),
    (3, "pp=3", {}, "--parallel pp=3 gives every stage layers, and there are 2"),
    (2, "tp=2", {"dropout": 0.1}, "--parallel tp=2 does not go with --dropout: its masks would be other ones"),
    (2, "pp=2", {"dropout": 0.1}, "--parallel pp=2 does not go with --dropout"),
    (2, "fsdp", {"deterministic": True}, "--deterministic sums whole gradients; it does not go with --parallel fsdp"),
    (3, "fsdp", {}, "with --parallel fsdp each of 3 ranks takes as many micro-batches; a batch of 4 cannot be divided"),
    (2, "pp=2", {"micro_batch": 5}, "--parallel pp=2 takes micro-batches of one size, and 16 sequences are not"),
    (2, "pp=2", {"micro_batch": 16}, "--parallel pp=2 keeps 2 stages busy with as many micro-batches, and there is 1:"),
    (8, "pp=2", {}, "--parallel pp=2 keeps 2 stages busy with as many micro-batches, and there is 1:"),
])
def test_what_cannot_be_trained_so(world: int, how: str, options: dict[str, object], said: str) -> None:
    layout = parse_layout(how, world)
    assert layout is not None
    with pytest.raises(UsageFault) as caught:
        layout.check(config(**options))  # type: ignore[arg-type]
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("world", "stages", "width"), [(8, 2, 2), (12, 3, 2), (4, 1, 2), (6, 3, 1)])
def test_every_rank_has_a_place_of_its_own_and_rank_0_the_last_stage(world: int, stages: int, width: int) -> None:
    layout = Layout("x", world, stages, width)
    places = [(layout.replica(rank), layout.stage(rank), layout.part(rank)) for rank in range(world)]
    assert sorted(places) == [(replica, stage, part) for replica in range(layout.replicas) for stage in range(stages)
                              for part in range(width)]
    assert places[0] == (0, stages - 1, 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stages", [1, 2, 3, 5, 8, 12])
def test_stages_have_neighbouring_layers_and_the_slowest_is_no_slower_than_any_other_cut_makes_it(
    size: str, stages: int
) -> None:
    shape = SIZES[size]
    layers = layers_of_stages(shape, stages)
    assert [layer for stage in layers for layer in stage] == list(range(shape.n_layer))
    assert len(layers) == stages and min(map(len, layers)) > 0
    head = shape.n_vocab / (12 * shape.n_embd + shape.n_ctx)

    def slowest(counts: list[int]) -> float:
        return max([*map(float, counts[:-1]), counts[-1] + head])

    found = slowest([len(stage) for stage in layers])
    for last in range(1, shape.n_layer - stages + 2 if stages > 1 else 1):
        rest = shape.n_layer - last
        assert found <= slowest([rest // (stages - 1) + (n < rest % (stages - 1)) for n in range(stages - 1)] + [last])


def test_the_head_stands_for_layers() -> None:
    assert [len(stage) for stage in layers_of_stages(SIZES["small"], 2)] == [8, 4]
    assert [len(stage) for stage in layers_of_stages(ModelShape(2, 2, 32, 64, 512), 2)] == [1, 1]
