"""The training pass of GPT-2 written out: loss and gradient by native kernels and torch's matrix products.

The network is gpt2.py's and the arithmetic that of autocast to bf16: products in bf16 of bf16 copies of the weights, or
of weights that are bf16 themselves, the residual stream, norms, softmax and sums of gradients in fp32. A gradient is of
its parameter's grad_dtype. Little else is allocated from one micro-batch to the next. What a block keeps is its two
residual inputs, q, k and v, what was attended, and the MLP's inside before its GELU; norms and GELUs are computed again
on the way back, and with model.recompute all but its input.

Shapes: N positions of all sequences (B T), C width, F = 4 C, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from gpt2cli.model.gpt2 import GPT2, LAYER_NORM_EPS, Block, Projection
from gpt2cli.model.native_kernels import NativeKernels
from gpt2cli.sizes import ModelShape

_LANES = 16
NATIVE_CHUNK = 512
"""Positions whose logits exist at once, in bf16; the more, the less often the token table's gradient is added to."""
_ROW = 64
"""Logits of a chunk begin a row at a multiple of this many."""
_TABLE_ROWS = 8192
"""Rows of the token table whose gradient is computed at once."""


def computes(shape: ModelShape) -> bool:
    """Whether the kernels fit a network of this shape."""
    return shape.n_embd % _LANES == 0 and shape.n_embd // shape.n_head % _LANES == 0


@dataclass(frozen=True)
class _Kept:
    """What one block keeps between the passes. Means and deviations of the norms are in stats: two rows each."""

    before: Tensor
    qkv: Tensor
    log_sums: Tensor
    attended: Tensor
    between: Tensor
    inside: Tensor
    stats: Tensor


class _Rooms:
    """All memory of the pass for B sequences of T positions. recompute: blocks share what they keep but their input."""

    def __init__(self, shape: ModelShape, B: int, T: int, recompute: bool) -> None:
        N, C, bf16 = B * T, shape.n_embd, torch.bfloat16

        def kept() -> _Kept:
            return _Kept(torch.empty(N, C), torch.empty(N, 3 * C, dtype=bf16), torch.empty(B * shape.n_head, T),
                         torch.empty(N, C, dtype=bf16), torch.empty(N, C), torch.empty(N, 4 * C, dtype=bf16),
                         torch.empty(4, N))

        if recompute:
            shared = kept()
            self.kept = [replace(shared, before=torch.empty(N, C)) for _ in range(shape.n_layer)]
        else:
            self.kept = [kept() for _ in range(shape.n_layer)]
        self.recompute = recompute
        self.after, self.stats, self.residual = torch.empty(N, C), torch.empty(2, N), torch.empty(N, C)
        self.normed, self.narrow, self.slope = (torch.empty(N, C, dtype=bf16) for _ in range(3))
        self.mlp, self.mlp_slope = (torch.empty(N, 4 * C, dtype=bf16) for _ in range(2))
        self.qkv_slope = torch.empty(N, 3 * C, dtype=bf16)
        self.nll = torch.empty(N)
        self.logits = torch.empty(min(N, NATIVE_CHUNK), -(-shape.n_vocab // _ROW) * _ROW, dtype=bf16)
        self.product = torch.empty(max(4 * C * C, min(shape.n_vocab, _TABLE_ROWS) * C), dtype=bf16)


class NativeGradient:
    """Adds gradients of the summed nll of micro-batches to a model's parameters: all fp32 or all bf16, on the CPU."""

    def __init__(self, model: GPT2, kernels: NativeKernels) -> None:
        self._model, self._run = model, kernels
        self.parameters = list(model.parameters())
        """The model's, which it gives to who asks it: walking through its modules takes longer."""
        matrices = [module for module in model.modules() if isinstance(module, Projection)]
        self._wte = cast(nn.Parameter, model.wte.weight)
        norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
        self._narrow = _in_type(torch.bfloat16, [self._wte, *(each for one in matrices for each in one.parameters())])
        self._wide = _in_type(torch.float32, [each for one in norms for each in one.parameters()])
        self._copies = {parameter: copy for held in (self._narrow, self._wide) for parameter, copy in held.items()
                        if copy is not parameter}
        self._versions: list[int] = []
        self._rooms: tuple[tuple[int, ...], _Rooms] | None = None

    def whole_gradient(self) -> None:
        """Return None: every parameter's gradient is a tensor of its own."""

    def forget_weights(self) -> None:
        """Read all weights anew next time. Needed where they were written past torch's own count of changes."""
        self._versions = []

    def free_rooms(self) -> None:
        """Let go of the memory that add() would use again."""
        self._rooms = None

    @torch.no_grad()
    def add(self, ids_BT: Tensor, targets_BT: Tensor, scale: float) -> Tensor:
        """Add the gradient of `scale` times the summed nll of a micro-batch; return that nll (scalar fp32, nats)."""
        B, T = ids_BT.shape
        if self._rooms is None or self._rooms[0] != (B, T):
            self._rooms = None  # the old ones go before the new ones come
            self._rooms = (B, T), _Rooms(self._model.shape, B, T, self._model.recompute)
        rooms = self._rooms[1]
        self._take_weights()
        self._forward(rooms, ids_BT)
        nll = self._head(rooms, targets_BT.reshape(-1), scale)
        self._backward(rooms, ids_BT)
        return nll

    def _take_weights(self) -> None:
        versions = [parameter._version for parameter in self._copies]
        if versions != self._versions:
            self._versions = versions
            for parameter, copy in self._copies.items():
                copy.copy_(parameter)

    def _forward(self, rooms: _Rooms, ids_BT: Tensor) -> None:
        model, (B, T) = self._model, ids_BT.shape
        x_NC, y_NC = rooms.kept[0].before, None
        if self._wte.dtype == x_NC.dtype:
            torch.index_select(self._wte, 0, ids_BT.reshape(-1), out=x_NC)
        else:
            x_NC.copy_(torch.index_select(self._wte, 0, ids_BT.reshape(-1), out=rooms.narrow))
        x_NC.view(B, T, -1).add_(model.wpe.weight[:T])
        for module, kept in zip(model.h, rooms.kept, strict=True):
            block = cast(Block, module)
            self._to_inside(block, rooms, kept, x_NC, y_NC, rooms.narrow)
            self._run("gelu_forward", kept.inside, rooms.mlp, kept.inside.numel())
            self._project(block.mlp.c_proj, rooms.mlp, rooms.narrow)
            x_NC, y_NC = kept.between, rooms.narrow
        self._norm(model.ln_f, x_NC, y_NC, rooms.after, rooms.normed, rooms.stats)

    def _to_inside(self, block: Block, rooms: _Rooms, kept: _Kept, x_NC: Tensor, y_NC: Tensor | None,
                   room_NC: Tensor) -> None:
        """Run a block on x + y (y None: on x) as far as the MLP's inside; room_NC, which may be y, is overwritten."""
        heads, width = self._model.shape.n_head, self._model.shape.n_embd
        T = kept.log_sums.shape[1]
        B = len(kept.log_sums) // heads
        self._norm(block.ln_1, x_NC, y_NC, kept.before, rooms.normed, kept.stats[:2])
        self._project(block.attn.c_attn, rooms.normed, kept.qkv)
        self._run("attention_forward", kept.qkv, kept.attended, kept.log_sums, B, T, heads, width // heads)
        self._project(block.attn.c_proj, kept.attended, room_NC)
        self._norm(block.ln_2, kept.before, room_NC, kept.between, rooms.normed, kept.stats[2:])
        self._project(block.mlp.c_fc, rooms.normed, kept.inside)

    def _head(self, rooms: _Rooms, targets_N: Tensor, scale: float) -> Tensor:
        """Leave the gradient of the final norm's output in rooms.slope; return the summed nll."""
        n_vocab, w_VC = self._model.shape.n_vocab, self._narrow[self._wte]
        there = self._wte.grad is not None and _is_wide(self._wte)
        sum_VC = _empty_gradient(self._wte) if _is_wide(self._wte) else torch.empty(w_VC.shape)
        for start in range(0, len(targets_N), NATIVE_CHUNK):
            rows = slice(start, start + NATIVE_CHUNK)
            count = len(targets_N[rows])
            logits = rooms.logits[:count, :n_vocab]
            torch.mm(rooms.normed[rows], w_VC.T, out=logits)
            self._run("nll_in_place", logits, targets_N[rows], rooms.nll[rows], scale, count, n_vocab, logits.stride(0))
            torch.mm(logits, w_VC, out=rooms.slope[rows])
            for first in range(0, n_vocab, _TABLE_ROWS):
                some = slice(first, first + _TABLE_ROWS)
                self._add_product(rooms, sum_VC[some], logits[:, some].T, rooms.normed[rows], there)
            there = True
        _take_sum(self._wte, sum_VC)
        return rooms.nll.sum()

    def _backward(self, rooms: _Rooms, ids_BT: Tensor) -> None:
        model, (B, T) = self._model, ids_BT.shape
        rooms.residual.zero_()
        self._norm_back(rooms, model.ln_f, rooms.after, rooms.stats)
        for module, kept in zip(reversed(list(model.h)), reversed(rooms.kept), strict=True):
            block = cast(Block, module)
            if rooms.recompute:
                self._to_inside(block, rooms, kept, kept.before, None, rooms.slope)
            self._mlp_back(block, rooms, kept)
            self._attention_back(block, rooms, kept, B, T)
        self._add_to_rows(_gradient(self._wte), ids_BT.reshape(-1), rooms.residual)
        _gradient(cast(nn.Parameter, model.wpe.weight))[:T].add_(rooms.residual.view(B, T, -1).sum(0))

    def _add_to_rows(self, gradient_VC: Tensor, ids_N: Tensor, slope_NC: Tensor) -> None:
        if gradient_VC.dtype == torch.float32:
            gradient_VC.index_add_(0, ids_N, slope_NC)
            return
        ids, place_N = ids_N.unique(return_inverse=True)  # a row that is met often is summed before it is rounded
        gradient_VC[ids] = gradient_VC[ids].float().index_add_(0, place_N, slope_NC).to(gradient_VC.dtype)

    def _mlp_back(self, block: Block, rooms: _Rooms, kept: _Kept) -> None:
        torch.mm(rooms.narrow, self._narrow[block.mlp.c_proj.weight].T, out=rooms.mlp_slope)
        self._run("gelu_backward", kept.inside, rooms.mlp_slope, rooms.mlp, kept.inside.numel())
        self._add_gradient(rooms, block.mlp.c_proj, rooms.mlp, rooms.narrow)
        self._norm_again(block.ln_2, kept.between, kept.stats[2:], rooms.normed)
        self._add_gradient(rooms, block.mlp.c_fc, rooms.normed, rooms.mlp_slope)
        torch.mm(rooms.mlp_slope, self._narrow[block.mlp.c_fc.weight].T, out=rooms.slope)
        self._norm_back(rooms, block.ln_2, kept.between, kept.stats[2:])

    def _attention_back(self, block: Block, rooms: _Rooms, kept: _Kept, B: int, T: int) -> None:
        heads, width = self._model.shape.n_head, self._model.shape.n_embd
        self._add_gradient(rooms, block.attn.c_proj, kept.attended, rooms.narrow)
        torch.mm(rooms.narrow, self._narrow[block.attn.c_proj.weight].T, out=rooms.slope)
        self._run("attention_backward", kept.qkv, kept.attended, rooms.slope, kept.log_sums, rooms.qkv_slope,
                  B, T, heads, width // heads)
        self._norm_again(block.ln_1, kept.before, kept.stats[:2], rooms.normed)
        self._add_gradient(rooms, block.attn.c_attn, rooms.normed, rooms.qkv_slope)
        torch.mm(rooms.qkv_slope, self._narrow[block.attn.c_attn.weight].T, out=rooms.slope)
        self._norm_back(rooms, block.ln_1, kept.before, kept.stats[:2])

    def _project(self, projection: Projection, x_NI: Tensor, out_NO: Tensor) -> None:
        torch.addmm(self._narrow[projection.bias], x_NI, self._narrow[projection.weight], out=out_NO)

    def _norm(self, norm: nn.LayerNorm, x_NC: Tensor, y_NC: Tensor | None, sum_NC: Tensor, out_NC: Tensor,
              stats_2N: Tensor) -> None:
        self._run("norm_forward", x_NC, y_NC, sum_NC, self._wide[norm.weight], self._wide[norm.bias], out_NC,
                  stats_2N[0], stats_2N[1], len(x_NC), x_NC.shape[1], LAYER_NORM_EPS)

    def _norm_again(self, norm: nn.LayerNorm, x_NC: Tensor, stats_2N: Tensor, out_NC: Tensor) -> None:
        self._run("norm_again", x_NC, stats_2N[0], stats_2N[1], self._wide[norm.weight], self._wide[norm.bias], out_NC,
                  len(x_NC), x_NC.shape[1])

    def _norm_back(self, rooms: _Rooms, norm: nn.LayerNorm, x_NC: Tensor, stats_2N: Tensor) -> None:
        """Add to the residual's gradient what comes through a norm from rooms.slope; its bf16 copy is rooms.narrow."""
        sums = _wide_gradient(norm.weight), _wide_gradient(norm.bias)
        self._run("norm_backward", rooms.slope, x_NC, stats_2N[0], stats_2N[1], self._wide[norm.weight], rooms.residual,
                  rooms.narrow, *sums, len(x_NC), x_NC.shape[1])
        _take_sum(norm.weight, sums[0])
        _take_sum(norm.bias, sums[1])

    def _add_gradient(self, rooms: _Rooms, projection: Projection, x_NI: Tensor, slope_NO: Tensor) -> None:
        there = projection.weight.grad is not None
        gradient_IO = _empty_gradient(projection.weight)
        if there or _is_wide(projection.weight):
            self._add_product(rooms, gradient_IO, x_NI.T, slope_NO, there)
        else:
            torch.mm(x_NI.T, slope_NO, out=gradient_IO)
        sum_O = _wide_gradient(projection.bias)
        self._run("add_column_sums", slope_NO, sum_O, len(slope_NO), slope_NO.shape[1])
        _take_sum(projection.bias, sum_O)

    def _add_product(self, rooms: _Rooms, sum_IO: Tensor, left_IN: Tensor, right_NO: Tensor, there: bool) -> None:
        """Write a product, or add it where something is `there`; by way of bf16, all that torch multiplies to."""
        product = rooms.product[: sum_IO.numel()].view_as(sum_IO)
        torch.mm(left_IN, right_NO, out=product)
        if sum_IO.dtype == torch.float32:
            self._run("add_widened", product, sum_IO, sum_IO.numel(), int(there))
        else:
            sum_IO.add_(product)


def _in_type(dtype: torch.dtype, parameters: list[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """Return each parameter, or where it is of another type, room for a copy in `dtype`."""
    return {parameter: parameter if parameter.dtype == dtype else torch.empty_like(parameter, dtype=dtype)
            for parameter in parameters}


def _gradient_type(parameter: nn.Parameter) -> torch.dtype:
    return parameter.grad_dtype or parameter.dtype


def _is_wide(parameter: nn.Parameter) -> bool:
    return _gradient_type(parameter) == torch.float32


def _empty_gradient(parameter: nn.Parameter) -> Tensor:
    """Return a parameter's gradient, with no numbers in it if there was none."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter, dtype=_gradient_type(parameter))
    return parameter.grad


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Return a parameter's gradient, zeros if there was none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter, dtype=_gradient_type(parameter))
    return parameter.grad


def _wide_gradient(parameter: nn.Parameter) -> Tensor:
    """Return what kernels add a parameter's gradient to: the gradient, or fp32 zeros, which _take_sum() adds to it."""
    return _gradient(parameter) if _is_wide(parameter) else torch.zeros(parameter.shape)


def _take_sum(parameter: nn.Parameter, total: Tensor) -> None:
    """Add `total` to a parameter's gradient, unless it is that."""
    if parameter.grad is None:
        parameter.grad = total.to(_gradient_type(parameter))
    elif total is not parameter.grad:
        parameter.grad.add_(total)
