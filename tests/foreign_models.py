"""Models in other programs' files, made for tests; nanoGPT's and llm.c's layouts from their own definitions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tiny_models import lively_model
from torch import Tensor, nn

from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(2, 2, 16, 32, 500)


def own_state(shape: ModelShape = SHAPE) -> dict[str, Tensor]:
    """A lively model's tensors under our names."""
    return {name: tensor.detach().clone() for name, tensor in lively_model(shape).state_dict().items()}


class NanoGPT(nn.Module):
    """nanoGPT's network as its model.py defines it: Linear layers [out, in], biases or none, a tied head."""

    def __init__(self, shape: ModelShape, bias: bool, exact_gelu: bool) -> None:
        super().__init__()
        d = shape.n_embd
        self.n_head, self.exact_gelu = shape.n_head, exact_gelu
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(shape.n_vocab, d), "wpe": nn.Embedding(shape.n_ctx, d),
            "h": nn.ModuleList(nn.ModuleDict({
                "ln_1": nn.LayerNorm(d, bias=bias), "ln_2": nn.LayerNorm(d, bias=bias),
                "attn": nn.ModuleDict({"c_attn": nn.Linear(d, 3 * d, bias), "c_proj": nn.Linear(d, d, bias)}),
                "mlp": nn.ModuleDict({"c_fc": nn.Linear(d, 4 * d, bias), "c_proj": nn.Linear(4 * d, d, bias)}),
            }) for _ in range(shape.n_layer)),
            "ln_f": nn.LayerNorm(d, bias=bias),
        })
        self.lm_head = nn.Linear(d, shape.n_vocab, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        B, T = ids.shape
        x = self.transformer["wte"](ids) + self.transformer["wpe"](torch.arange(T))
        for block in self.transformer["h"]:
            q, k, v = (part.view(B, T, self.n_head, -1).transpose(1, 2)
                       for part in block["attn"]["c_attn"](block["ln_1"](x)).chunk(3, -1))
            scores = q @ k.transpose(2, 3) / math.sqrt(k.shape[-1])
            scores = scores.masked_fill(~torch.ones(T, T, dtype=torch.bool).tril(), -torch.inf)
            x = x + block["attn"]["c_proj"]((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, -1))
            inner = F.gelu(block["mlp"]["c_fc"](block["ln_2"](x)), approximate="none" if self.exact_gelu else "tanh")
            x = x + block["mlp"]["c_proj"](inner)
        return self.lm_head(self.transformer["ln_f"](x))


def nanogpt_checkpoint(shape: ModelShape = SHAPE, bias: bool = True, prefix: str = "", **changes: Any
                       ) -> tuple[NanoGPT, dict[str, Any]]:
    """A network and its ckpt.pt as nanoGPT's train.py makes it; `changes` go into model_args."""
    network = NanoGPT(shape, bias, exact_gelu=True)
    arguments = {"n_layer": shape.n_layer, "n_head": shape.n_head, "n_embd": shape.n_embd, "block_size": shape.n_ctx,
                 "bias": bias, "vocab_size": shape.n_vocab, "dropout": 0.0}
    model = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    return network, {"model": model, "optimizer": {"state": {}, "param_groups": []}, "iter_num": 5,
                     "model_args": arguments | changes, "best_val_loss": torch.tensor(3.5), "config": {"bias": bias}}


def read_llmc_by_its_definition(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The header and the 16 arrays of gpt2_build_from_checkpoint in llm.c's train_gpt2.c, bfloat16 widened."""
    data = path.read_bytes()
    header = np.frombuffer(data, "<i4", 256)
    maxT, V, L, _, C, Vp = (int(number) for number in header[2:8])
    sizes = {"wte": (Vp, C), "wpe": (maxT, C), "ln1w": (L, C), "ln1b": (L, C), "qkvw": (L, 3 * C, C),
             "qkvb": (L, 3 * C), "attprojw": (L, C, C), "attprojb": (L, C), "ln2w": (L, C), "ln2b": (L, C),
             "fcw": (L, 4 * C, C),
             "fcb": (L, 4 * C), "fcprojw": (L, C, 4 * C), "fcprojb": (L, C), "lnfw": (C,), "lnfb": (C,)}
    values = np.frombuffer(data, "<f4" if header[1] == 3 else "<u2", offset=1024)
    if header[1] == 5:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    arrays, at = {}, 0
    for name, size in sizes.items():
        arrays[name] = values[at : at + math.prod(size)].reshape(size)
        at += math.prod(size)
    assert at == len(values) and Vp >= V
    return header, arrays
