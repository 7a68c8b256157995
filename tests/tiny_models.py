"""Small GPT-2s with lively random weights: every parameter counts, biases and norms too, so a wrong one shows."""

from __future__ import annotations

from pathlib import Path

import torch

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.weights import save_weights
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary


def small_vocabulary(merges: int = 243) -> Vocabulary:
    """GPT-2's 256 bytes and first merges: 500 ids by default, end-of-text the last."""
    size = 256 + merges
    return Vocabulary({token: rank for token, rank in gpt2_vocabulary().ranks.items() if rank < size}, size)


def lively_model(shape: ModelShape, seed: int = 0) -> GPT2:
    """A model whose weights are far from their initial values, in eval mode."""
    model = GPT2(shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm_gain = name.endswith("weight") and "ln_" in name
            parameter.copy_(1 + 0.2 * noise if norm_gain else 0.15 * noise)
    return model.eval()


def save_model(directory: Path, model: GPT2, vocabulary: Vocabulary) -> Path:
    """Write a Hugging Face directory with tokenizer files, as a checkpoint holds them."""
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(model.state_dict(), model.shape, vocabulary.eot, directory)
    write_tokenizer_files(vocabulary, directory)
    return directory


def one_thread() -> None:
    """Let torch compute tiny tensors in this thread alone: on a busy machine two are many times slower."""
    torch.set_num_threads(1)
