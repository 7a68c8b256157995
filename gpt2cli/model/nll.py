"""Negative log-likelihood in nats through the tied head, in chunks, so that (tokens x V) logits never exist whole.

Shapes: N positions, C width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEAD_CHUNK = 512
"""Positions whose logits exist at once."""


def token_nll(x_NC: Tensor, wte_VC: Tensor, targets_N: Tensor, chunk: int = HEAD_CHUNK) -> Tensor:
    """Return -log p(target) in nats, fp32 (N,), without gradients; the softmax runs in fp32 whatever the dtype."""
    with torch.no_grad():
        parts = [
            torch.nn.functional.cross_entropy((x @ wte_VC.T).float(), target, reduction="none")
            for x, target in zip(x_NC.split(chunk), targets_N.split(chunk), strict=True)
        ]
    return torch.cat(parts) if parts else torch.empty(0)


def sum_nll(x_NC: Tensor, wte_VC: Tensor, targets_N: Tensor, dtype: torch.dtype, chunk: int = HEAD_CHUNK) -> Tensor:
    """Return the summed nll in nats (scalar fp32) with gradients for x and wte.

    Matrix products run in `dtype`, the softmax and the sums in fp32; so do the gradient's products where dtype is fp16,
    which has no room for probabilities of one in 50,257.
    """
    return _SumNll.apply(x_NC, wte_VC, targets_N, dtype, chunk)


class _SumNll(torch.autograd.Function):
    """Computes both gradients while each chunk's logits exist; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, wte_VC: Tensor, targets_N: Tensor, dtype: torch.dtype, chunk: int) -> Tensor:
        with torch.autocast(x_NC.device.type, enabled=False):
            x, w = x_NC.to(dtype), wte_VC.to(dtype)
            total = torch.zeros((), device=x.device)
            precise = torch.float32 if dtype == torch.float16 else dtype
            x_precise, w_precise = (x, w) if precise == dtype else (x_NC.to(precise), wte_VC.to(precise))
            grad_x = torch.empty_like(x_precise)
            grad_w = torch.zeros_like(wte_VC, dtype=torch.float32)
            for start in range(0, len(x), chunk):
                rows = slice(start, start + chunk)
                logits = (x[rows] @ w.T).float()
                target = targets_N[rows, None]
                log_z = logits.logsumexp(1, keepdim=True)
                total += (log_z - logits.gather(1, target)).sum()
                p = logits.sub_(log_z).exp_()
                p.scatter_add_(1, target, torch.full_like(log_z, -1.0))
                p = p.to(precise)
                torch.mm(p, w_precise, out=grad_x[rows])
                if precise == torch.float32:
                    grad_w.addmm_(p.T, x_precise[rows])
                else:
                    grad_w += p.T @ x[rows]
        ctx.save_for_backward(grad_x, grad_w)
        ctx.dtypes = x_NC.dtype, wte_VC.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_w = ctx.saved_tensors
        scale = grad_outputs[0]
        x_dtype, w_dtype = ctx.dtypes
        return (grad_x * scale.to(grad_x.dtype)).to(x_dtype), (grad_w * scale).to(w_dtype), None, None, None
