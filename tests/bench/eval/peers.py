"""What a person would run instead of `gpt2 eval-ppl`: lm-evaluation-harness, and the loop of the transformers docs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, GPT2LMHeadModel


class Harness:
    """lm_eval's HFLM; `batch` is its batch size."""

    def __init__(self, directory: Path, dtype: str, batch: int) -> None:
        self._model = HFLM(pretrained=str(directory), device="cpu", dtype=dtype, batch_size=batch)

    def nll(self, texts: list[str]) -> float:
        """Return the summed nll of its rolling log-likelihood, each text a document."""
        requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
        return -sum(self._model.loglikelihood_rolling(requests, disable_tqdm=True))


class Loop:
    """The loop of "Perplexity of fixed-length models", as documented: one window at a time."""

    def __init__(self, directory: Path, dtype: str) -> None:
        self._model = GPT2LMHeadModel.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(directory)

    def nll(self, texts: list[str], stride: int) -> float:
        """Return its nll_sum, summed over the texts."""
        return sum(self._one(self._tokenizer(text, return_tensors="pt").input_ids, stride) for text in texts)

    def _one(self, ids: Any, stride: int) -> float:
        max_length, seq_len = self._model.config.n_positions, ids.size(1)
        nll_sum, prev_end_loc = 0.0, 0
        for begin_loc in range(0, seq_len, stride):
            end_loc = min(begin_loc + max_length, seq_len)
            trg_len = end_loc - prev_end_loc
            input_ids = ids[:, begin_loc:end_loc]
            target_ids = input_ids.clone()
            target_ids[:, :-trg_len] = -100
            with torch.no_grad():
                loss = self._model(input_ids, labels=target_ids).loss
            counted = int((target_ids != -100).sum()) - 1
            if counted:
                nll_sum += float(loss) * counted
            prev_end_loc = end_loc
            if end_loc == seq_len:
                break
        return nll_sum
