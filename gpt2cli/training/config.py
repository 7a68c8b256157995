"""From a person's options to the complete configuration of a run: every default is decided here, and recorded."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from gpt2cli.errors import UsageFault
from gpt2cli.model.nll import HEAD_CHUNK
from gpt2cli.records.provenance import json_sha256
from gpt2cli.sizes import (
    GPT2_CONTEXT,
    GPT2_VOCAB_SIZE,
    SIZES,
    ModelShape,
    activation_bytes,
    default_heads,
    size_by_name,
)
from gpt2cli.tokens.order import count_windows, order_version
from gpt2cli.training.schedule import WSD_DECAY_SHARE, Schedule, ScheduleName
from gpt2cli.training.spikes import Policy

if TYPE_CHECKING:
    from gpt2cli.training.initial_weights import InitialWeights

DEFAULT_BATCH_TOKENS = 524_288
DEFAULT_EVAL_TOKENS = 65_536
DEFAULT_SPIKE_SIGMAS = 6.0
_PEAK_LR = {"small": 6e-4, "medium": 3e-4, "large": 2.5e-4, "xl": 2e-4}
_MICRO_TOKENS = 8_192
_MICRO_BYTES = 2 << 30


ONLY_MEASURES = {"noise_every", "layers_every"}
"""Settings that add records and change nothing else: runs that differ in them alone have one name."""


@dataclass(frozen=True)
class TrainOptions:
    """What a person asked for; None means: decide for me."""

    size: str | None = None
    layers: int | None = None
    embd: int | None = None
    heads: int | None = None
    context: int | None = None
    recipe: str = "modern"
    batch_tokens: int | None = None
    micro_batch: int | None = None
    steps: int | None = None
    tokens: int | None = None
    lr: float | None = None
    warmup: int | None = None
    schedule: ScheduleName = "cosine"
    decay_tokens: int | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    clip: float = 1.0
    dtype: str = "auto"
    seed: int = 0
    eval_every: int | None = None
    eval_tokens: int = DEFAULT_EVAL_TOKENS
    checkpoint_every: int | None = None
    noise_every: int | None = None
    layers_every: int | None = None
    doc_mask: bool = False
    on_spike: Policy | None = None
    spike_sigmas: float | None = None
    deterministic: bool = False
    compile: str = "auto"
    weights: str = "fp32"
    moments: str = "fp32"


@dataclass(frozen=True)
class TrainConfig:
    """A complete run. batch in tokens is the optimisation setting, micro_batch (sequences) only memory."""

    size: str
    n_layer: int
    n_head: int
    n_embd: int
    n_ctx: int
    n_vocab: int
    recipe: str
    batch_tokens: int
    micro_batch: int
    steps: int
    lr: float
    lr_floor: float
    warmup_steps: int
    schedule: ScheduleName
    decay_steps: int | None
    """How long WSD decays; None for the schedules that decay throughout."""
    beta1: float
    beta2: float
    weight_decay: float
    dropout: float
    clip: float
    dtype: str
    seed: int
    eval_every: int
    eval_tokens: int
    checkpoint_every: int
    data_order: int
    """tokens.order.order_version: an order of another version would feed a resumed run other data."""
    noise_every: int = 0
    """Steps between measurements of the gradient noise, 0: none. It adds to the metrics and changes nothing else."""
    layers_every: int = 0
    """Steps between records of every layer's gradient and update, 0: none. It changes nothing else."""
    doc_mask: bool = False
    """Whether attention is kept within documents."""
    init_from: str | None = None
    """The sha256 of the weights that the run began with, None: drawn from the seed."""
    on_spike: Policy | None = None
    """What to do about a batch that spikes (spikes.py); None: stop where something is not finite, else nothing."""
    spike_sigmas: float | None = None
    """How far above the mean a spike is, in standard deviations; None where only what is not finite counts."""
    deterministic: bool = False
    """Whether gradients are summed in one order for any number of ranks."""
    compile: str = "off"
    """Which compiled form of the network is trained (compiling.py): native, torch or off."""
    weights: str = "fp32"
    """What the network computes with: bf16 has fp32 masters in the optimizer (master_weights.py)."""
    moments: str = "fp32"
    """What Adam's moments are kept in: bf16 is rounded by chance (stochastic_rounding.py)."""

    @property
    def shape(self) -> ModelShape:
        """The network."""
        return ModelShape(self.n_layer, self.n_head, self.n_embd, self.n_ctx, self.n_vocab)

    @property
    def batch(self) -> int:
        """Sequences in a step."""
        return self.batch_tokens // self.n_ctx

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a step, the last perhaps smaller than the others."""
        return -(-self.batch // self.micro_batch)

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.batch_tokens

    def learning_rate(self) -> Schedule:
        """The schedule of this run."""
        return Schedule(self.schedule, self.lr, self.lr_floor, self.warmup_steps, self.steps,
                        self.decay_steps or 0)

    @property
    def last_phase(self) -> str:
        """The lr_phase of a run at its end: "done" once its rate has decayed, "stable" for a trunk that never does."""
        return "stable" if self.schedule == "wsd" and not self.decay_steps else "done"

    def as_record(self) -> dict[str, Any]:
        """The configuration as a JSON object."""
        return asdict(self)

    def run_name(self, data_sha256: str, parent_run: str | None = None, parent_step: int | None = None) -> str:
        """Size name and a short hash of configuration, seed, data and a branch's parent: equal for equal training."""
        parent = [] if parent_run is None else [parent_run, parent_step]
        later = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        config = {name: value for name, value in self.as_record().items()
                  if name not in ONLY_MEASURES and (name not in later or value != later[name])}
        return f"{self.size}-{json_sha256([config, data_sha256, *parent])[:8]}"


def named_shape(options: TrainOptions, initial: InitialWeights | None = None) -> tuple[str, ModelShape]:
    """Return (name, shape for GPT-2's own context and vocabulary) of `--size`, or of `--layers --embd [--heads]`.

    Of a model to begin with it is that model's; UsageFault where the options say another.
    """
    if initial is not None:
        return _shape_of_initial(options, initial)
    if options.layers is None and options.embd is None:
        if options.heads is not None:
            raise UsageFault("--heads goes with --layers and --embd")
        return size_by_name(options.size or "small")
    if options.size is not None:
        raise UsageFault("give either --size or --layers and --embd, not both")
    if options.layers is None or options.embd is None:
        raise UsageFault("--layers and --embd go together")
    heads = options.heads or default_heads(options.embd)
    name = f"l{options.layers}-e{options.embd}" + (f"-h{options.heads}" if options.heads else "")
    return name, ModelShape(options.layers, heads, options.embd)


def _shape_of_initial(options: TrainOptions, initial: InitialWeights) -> tuple[str, ModelShape]:
    held = initial.shape.with_data(GPT2_CONTEXT, GPT2_VOCAB_SIZE)
    names = [name for name, shape in SIZES.items() if shape == held]
    name = names[0] if names else f"l{held.n_layer}-e{held.n_embd}-h{held.n_head}"
    if options.size or options.layers or options.embd or options.heads:
        asked = named_shape(options)[1]
        if asked != held:
            raise UsageFault(f"{initial.directory} holds a model of {held.n_layer} layers, {held.n_embd} wide, with "
                             f"{held.n_head} heads, and the options ask for {asked.n_layer}, {asked.n_embd} and "
                             f"{asked.n_head}; leave them out")
    return name, held


def resolve(options: TrainOptions, *, n_vocab: int, train_tokens: int, native_bf16: bool,
            packed_context: int | None = None, initial: InitialWeights | None = None) -> TrainConfig:
    """Return the complete configuration of `options` on shards of `train_tokens` tokens over `n_vocab`.

    packed_context: the context for which the shards were packed in rows, None when they serve any. initial: the model
    to begin with, None for new weights.
    Raises UsageFault when the options do not fit together, or do not fit the shards.
    """
    name, shape = named_shape(options, initial)
    n_ctx = _context(options.context, packed_context, initial)
    shape = shape.with_data(n_ctx, n_vocab)
    batch_tokens = _batch_tokens(options.batch_tokens, n_ctx)
    steps = _steps(options, train_tokens, batch_tokens, n_ctx)
    gpt = options.recipe == "gpt"
    lr = _given(options.lr, 2.5e-4 if gpt else _PEAK_LR.get(name, min(3e-3, 6e-4 * math.sqrt(768 / shape.n_embd))))
    warmup = _given(options.warmup, min(2000, steps // 10) if gpt else min(2000, math.ceil(0.05 * steps)))
    if warmup >= steps and options.warmup is not None:
        raise UsageFault(f"a warm-up of {warmup} steps leaves nothing of the {steps} steps; give a smaller --warmup")
    return TrainConfig(
        size=name, n_layer=shape.n_layer, n_head=shape.n_head, n_embd=shape.n_embd, n_ctx=n_ctx, n_vocab=n_vocab,
        recipe=options.recipe, batch_tokens=batch_tokens,
        micro_batch=_micro_batch(options.micro_batch, shape, batch_tokens // n_ctx), steps=steps,
        lr=lr, lr_floor=float(f"{lr / 10:.12g}"), warmup_steps=warmup, schedule=options.schedule,
        decay_steps=_decay_steps(options, steps, batch_tokens, warmup),
        beta1=0.9, beta2=0.999 if gpt else 0.95,
        weight_decay=_given(options.weight_decay, 0.01 if gpt else 0.1),
        dropout=_given(options.dropout, 0.1 if gpt else 0.0), clip=options.clip,
        dtype=_dtype(options, native_bf16), weights=options.weights, moments=options.moments, seed=options.seed,
        eval_every=_given(options.eval_every, min(250, max(10, steps // 20))), eval_tokens=options.eval_tokens,
        checkpoint_every=_given(options.checkpoint_every, min(1000, max(10, steps // 5))),
        data_order=order_version(train_tokens, n_ctx),
        noise_every=checked_noise_every(options.noise_every or 0, batch_tokens, n_ctx),
        deterministic=options.deterministic, layers_every=options.layers_every or 0,
        doc_mask=options.doc_mask, init_from=None if initial is None else initial.sha256,
        on_spike=options.on_spike, spike_sigmas=_spike_sigmas(options),
    )


def _dtype(options: TrainOptions, native_bf16: bool) -> str:
    if options.weights == "bf16":
        if options.dtype not in ("auto", "bf16"):
            raise UsageFault(f"--weights bf16 is computed with in bf16; it does not go with --dtype {options.dtype}")
        return "bf16"
    return ("bf16" if native_bf16 else "fp32") if options.dtype == "auto" else options.dtype


def checked_noise_every(noise_every: int, batch_tokens: int, n_ctx: int) -> int:
    """Return `noise_every` if a batch holds what it compares; UsageFault when it is a single sequence."""
    if noise_every and batch_tokens < 2 * n_ctx:
        raise UsageFault(f"--noise-every sets single sequences beside the batch, and a batch of {batch_tokens} tokens "
                         f"is one sequence; that needs --batch-tokens of at least {2 * n_ctx}")
    return noise_every


def _spike_sigmas(options: TrainOptions) -> float | None:
    if options.on_spike is None:
        if options.spike_sigmas is not None:
            raise UsageFault("--spike-sigmas says what a spike is; it goes with --on-spike")
        return None
    return _given(options.spike_sigmas, DEFAULT_SPIKE_SIGMAS) or None


def _context(given: int | None, packed: int | None, initial: InitialWeights | None) -> int:
    if packed is not None and given not in (None, packed):
        raise UsageFault(f"the shards were packed in rows for a context of {packed}, and --context is {given}; leave "
                         f"it out, or pack again with --pack best-fit --context {given}, or with --pack concatenate")
    held = GPT2_CONTEXT if initial is None else initial.shape.n_ctx
    context = given or packed or held
    if initial is not None and context > held:
        raise UsageFault(f"{initial.directory} knows {held} positions, and the context would be {context}; give a "
                         "smaller --context, or shards that were packed for one")
    return context


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _batch_tokens(given: int | None, n_ctx: int) -> int:
    if given is None:
        return max(1, DEFAULT_BATCH_TOKENS // n_ctx) * n_ctx
    if given < n_ctx or given % n_ctx:
        near = max(1, round(given / n_ctx)) * n_ctx
        raise UsageFault(f"--batch-tokens {given} is not a multiple of the context {n_ctx}; {near} would be")
    return given


def _steps(options: TrainOptions, train_tokens: int, batch_tokens: int, n_ctx: int) -> int:
    if options.steps is not None and options.tokens is not None:
        raise UsageFault("give either --steps or --tokens, not both")
    epoch = count_windows(train_tokens, n_ctx) * n_ctx
    if options.steps is not None:
        return options.steps
    steps = (options.tokens if options.tokens is not None else epoch) // batch_tokens
    if steps < 1:
        what = "--tokens" if options.tokens is not None else f"one epoch of the shards ({epoch:,} tokens)"
        raise UsageFault(f"{what} is less than one batch of {batch_tokens:,} tokens; give a smaller --batch-tokens")
    return steps


def _decay_steps(options: TrainOptions, steps: int, batch_tokens: int, warmup: int) -> int | None:
    if options.schedule != "wsd":
        if options.decay_tokens is not None:
            raise UsageFault(f"--decay-tokens goes with --schedule wsd; {options.schedule} decays from the warm-up on")
        return None
    if options.decay_tokens is None:
        return min(max(1, round(WSD_DECAY_SHARE * steps)), steps - warmup)
    decay = math.ceil(options.decay_tokens / batch_tokens)
    if decay > steps - warmup:
        raise UsageFault(f"--decay-tokens {options.decay_tokens} is {decay} steps, and after the warm-up there are "
                         f"{steps - warmup}; give less")
    return decay


def _micro_batch(given: int | None, shape: ModelShape, batch: int) -> int:
    if given is not None:
        if given > batch:
            raise UsageFault(f"--micro-batch {given} is more than the {batch} sequences of a batch")
        return given
    micro = 1
    while (
        2 * micro <= batch
        and 2 * micro * shape.n_ctx <= _MICRO_TOKENS
        and activation_bytes(shape, 2 * micro, 4, HEAD_CHUNK) <= _MICRO_BYTES
    ):
        micro *= 2
    return micro
