"""How the ranks of a run divide a model among them: replicas of it x stages of a pipeline x parts of every matrix.

Neighbouring ranks split matrices, since these talk the most; ranks of one replica are neighbours. Its last stage, which
knows the loss, comes first, so that rank 0, which speaks, is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt2cli.errors import UsageFault
from gpt2cli.sizes import ModelShape
from gpt2cli.training.config import TrainConfig


@dataclass(frozen=True)
class Layout:
    """`world` ranks as replicas of `stages` x `width` each; sharded: each replica has but some rows of every tensor."""

    name: str
    world: int
    stages: int = 1
    width: int = 1
    sharded: bool = False

    @property
    def replicas(self) -> int:
        """How many parts the micro-batches are divided into."""
        return self.world // (self.stages * self.width)

    def replica(self, rank: int) -> int:
        """Return which replica a rank belongs to."""
        return rank // (self.stages * self.width)

    def stage(self, rank: int) -> int:
        """Return which stage a rank has, 0: the one with the embedding."""
        return self.stages - 1 - rank // self.width % self.stages

    def part(self, rank: int) -> int:
        """Return which part of every matrix a rank has."""
        return rank % self.width

    def check(self, config: TrainConfig) -> None:
        """Raise UsageFault for a configuration that cannot be trained so."""
        how = f"--parallel {self.name}"
        if config.weights != "fp32":
            raise UsageFault(f"--weights {config.weights} is for ranks that each have the whole model; it does not go "
                             f"with {how}")
        if config.deterministic:
            raise UsageFault(f"--deterministic sums whole gradients; it does not go with {how}")
        if config.n_head % self.width:
            raise UsageFault(f"{how} splits the heads, and {config.n_head} cannot be divided so")
        if config.n_layer < self.stages:
            raise UsageFault(f"{how} gives every stage layers, and there are {config.n_layer}")
        if config.dropout and (self.width > 1 or self.stages > 1):
            raise UsageFault(f"{how} does not go with --dropout: its masks would be other ones")
        if config.micro_batches % self.replicas:
            raise UsageFault(f"with {how} each of {self.replicas} {self._takers} takes as many micro-batches; "
                             f"a batch of {config.micro_batches} cannot be divided so: give another --micro-batch")
        if self.stages > 1:
            self._check_stages(config, how)

    @property
    def _takers(self) -> str:
        return "ranks" if self.stages * self.width == 1 else "groups of ranks"

    def _check_stages(self, config: TrainConfig, how: str) -> None:
        if config.batch % config.micro_batch:
            raise UsageFault(f"{how} takes micro-batches of one size, and {config.batch} sequences are not a "
                             f"multiple of {config.micro_batch}: give another --micro-batch")
        own = config.micro_batches // self.replicas
        if own < self.stages:
            raise UsageFault(f"{how} keeps {self.stages} stages busy with as many micro-batches, and there "
                             f"{'is' if own == 1 else 'are'} {own}: give a smaller --micro-batch or a larger "
                             "--batch-tokens")


def parse_layout(how: str | None, world: int) -> Layout | None:
    """Return the layout that --parallel asks for, None where every one of `world` ranks has the whole model.

    Raises UsageFault for other words than fsdp, tp=N and pp=N with commas between, and where there are not the ranks.
    """
    if how is None:
        return None
    found = {"fsdp": 1, "tp": 1, "pp": 1}
    seen = []
    for word in how.split(","):
        kind, equals, number = word.partition("=")
        good = word == "fsdp" or (kind in ("tp", "pp") and equals and number.isascii() and number.isdigit()
                                  and 0 < int(number) <= 1 << 20)
        if not good or kind in seen:
            raise UsageFault(f"no --parallel {how!r}; there are fsdp, tp=N, pp=N and several of them with commas "
                             "between. Without it every rank has the whole model")
        seen.append(kind)
        found[kind] = int(number or 1)
    layout = Layout(how, world, found["pp"], found["tp"], "fsdp" in seen)
    if layout.stages * layout.width == 1 and not layout.sharded:
        return None
    if world == 1:
        raise UsageFault(f"--parallel {how} divides a model among ranks, and this process is alone; start several with "
                         "torchrun --nproc-per-node N -m gpt2cli train ...")
    if world % (layout.stages * layout.width):
        raise UsageFault(f"--parallel {how} takes a multiple of {layout.stages * layout.width} ranks, not {world}")
    if layout.sharded and layout.replicas == 1:
        raise UsageFault(f"--parallel {how} leaves fsdp nothing to divide on {world} ranks; leave it out or start more")
    return layout


def layers_of_stages(shape: ModelShape, stages: int) -> list[range]:
    """Return the layers of every stage, at least one each, so that the slowest is as fast as can be.

    The last one also has the head, of so many parameters that it stands for several layers: 5 in GPT-2 small.
    """
    C = shape.n_embd
    head = shape.n_vocab * C / (12 * C * C + shape.n_ctx * C)  # in layers, by the multiplications of a token
    others = stages - 1
    if not others:
        return [range(shape.n_layer)]
    last = min(range(1, shape.n_layer - others + 1),
               key=lambda count: (max(-(-(shape.n_layer - count) // others), count + head), count))
    before = shape.n_layer - last
    ends = [before * (stage + 1) // others for stage in range(others)] + [shape.n_layer]
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
