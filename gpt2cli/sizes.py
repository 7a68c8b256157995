"""Names, shapes and costs of GPT-2 models: parameters, FLOP, memory. Pure Python, importable by everyone.

Symbols: L = n_layer, d = n_embd, V = n_vocab, T = n_ctx.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpt2cli.errors import UsageFault

GPT2_VOCAB_SIZE = 50_257
GPT2_CONTEXT = 1024


@dataclass(frozen=True)
class ModelShape:
    """The five numbers that fix a GPT-2: layers, heads, width, context and vocabulary."""

    n_layer: int
    n_head: int
    n_embd: int
    n_ctx: int = GPT2_CONTEXT
    n_vocab: int = GPT2_VOCAB_SIZE

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "n_ctx", "n_vocab"):
            if getattr(self, name) < 1:
                raise UsageFault(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.n_embd % self.n_head:
            raise UsageFault(f"the width {self.n_embd} does not divide into {self.n_head} heads")

    @property
    def n_params(self) -> int:
        """All parameters; the head is tied to the token embedding and counts once."""
        return (self.n_vocab + self.n_ctx) * self.n_embd + self.n_params_non_embedding

    @property
    def n_params_non_embedding(self) -> int:
        """All but token and position embeddings: 12 L d^2 of matrices, 13 L d + 2 d of biases and norms."""
        d = self.n_embd
        return self.n_layer * (12 * d * d + 13 * d) + 2 * d

    def train_flops_per_token(self, *, full_attention: bool = False) -> int:
        """FLOP to train on one token: 6 (12 L d^2 + V d) for the matrices, 6 L T d for causal attention.

        The attention term is Kaplan's (2001.08361, causal half); full_attention: 12 L T d, the form of PaLM
        (2204.02311) and nanoGPT, which counts what is masked too. The embedding look-up costs nothing.
        """
        matrices = 12 * self.n_layer * self.n_embd**2 + self.n_vocab * self.n_embd
        return 6 * matrices + (12 if full_attention else 6) * self.n_layer * self.n_ctx * self.n_embd

    def with_data(self, n_ctx: int, n_vocab: int) -> ModelShape:
        """Return the same network for another context and vocabulary."""
        return replace(self, n_ctx=n_ctx, n_vocab=n_vocab)


SIZES: dict[str, ModelShape] = {
    "small": ModelShape(12, 12, 768),
    "medium": ModelShape(24, 16, 1024),
    "large": ModelShape(36, 20, 1280),
    "xl": ModelShape(48, 25, 1600),
}
"""The four published models (117M, 345M, 762M and 1542M are their names in the paper, not their counts)."""

ALIASES = {
    "gpt2": "small", "gpt2-medium": "medium", "gpt2-large": "large", "gpt2-xl": "xl",
    "117M": "small", "345M": "medium", "762M": "large", "1542M": "xl",
    "124M": "small", "355M": "medium", "774M": "large", "1558M": "xl",
}


def size_by_name(name: str) -> tuple[str, ModelShape]:
    """Return (canonical name, shape) for a size name or alias; raise UsageFault for an unknown one."""
    canonical = ALIASES.get(name, name)
    if canonical not in SIZES:
        raise UsageFault(f"no size {name!r}; sizes are {', '.join(SIZES)}, or give --layers and --embd")
    return canonical, SIZES[canonical]


def default_heads(n_embd: int) -> int:
    """Return the heads of a ladder width: head size 64 as in GPT-2, or the next smaller power of two that divides."""
    for head_size in (64, 32, 16, 8, 4, 2):
        if n_embd % head_size == 0 and n_embd >= head_size:
            return n_embd // head_size
    return 1


@dataclass(frozen=True)
class TrainMemory:
    """An estimate, in bytes, of what training holds at its peak."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of the four."""
        return self.parameters + self.gradients + self.optimizer + self.activations


def activation_bytes(shape: ModelShape, micro_batch: int, bytes_per_value: int, head_chunk: int) -> int:
    """Estimate what one micro-batch keeps for its backward pass, in bytes.

    Per layer and position: two norm inputs and outputs (4 d), q k v (3 d), attention out (1 d), MLP before and after
    GELU (8 d), then the residual sum (1 d), rounded up to 18 d for the kernels' own scratch; at the head one chunk of
    logits in fp32 with its gradient.
    """
    positions = micro_batch * shape.n_ctx
    body = 18 * shape.n_layer * positions * shape.n_embd * bytes_per_value
    head = 3 * min(head_chunk, positions) * shape.n_vocab * 4
    return body + head


def train_memory(shape: ModelShape, micro_batch: int, bytes_per_value: int, head_chunk: int) -> TrainMemory:
    """Estimate training memory with fp32 weights, gradients and both Adam moments (4 + 4 + 8 bytes a parameter)."""
    n = shape.n_params
    return TrainMemory(4 * n, 4 * n, 8 * n, activation_bytes(shape, micro_batch, bytes_per_value, head_chunk))
