"""GGUF files in llama.cpp by way of cyllama: DIRECTORY (of reference.json, logits.npy) FILE...

Prints for each file whether the text has our ids and the greedy ids are ours, and how far its logits are from ours.
llama.cpp computes GELU by a table in fp16, so even fp32 files differ in the third decimal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cyllama.llama.llama_cpp as llama
import numpy as np


class Model(llama.LlamaModel):
    """cyllama 0.2 asks its model for a number that it has not."""

    n_vocab = 50_257


def feed(context: llama.LlamaContext, number: int, position: int) -> np.ndarray:
    """Decode one id; return the logits after it."""
    batch = llama.LlamaBatch(n_tokens=1, embd=0, n_seq_max=1)
    batch.set_batch([number], position, False)
    batch.set_last_logits_to_true()
    context.decode(batch)
    return np.array(context.get_logits())


def main() -> int:
    """Open each file, compare, and fail where the ids of the text or the fp32 file's greedy ids are not ours."""
    place = Path(sys.argv[1])
    reference = json.loads((place / "reference.json").read_text())
    ours, ids = np.load(place / "logits.npy"), reference["ids"]
    llama.disable_logging()
    llama.llama_backend_init()
    sound = True
    for name in sys.argv[2:]:
        model = Model(name, llama.LlamaModelParams())
        tokens = list(model.get_vocab().tokenize(reference["text"], False, False))
        parameters = llama.LlamaContextParams()
        parameters.n_ctx, parameters.flash_attn_type, parameters.type_k, parameters.type_v = 64, 0, 0, 0
        context = llama.LlamaContext(model, parameters)
        found = np.stack([feed(context, number, position) for position, number in enumerate(ids)])
        greedy, logits = [], found[-1]
        for position in range(len(ids), len(ids) + len(reference["greedy"])):
            greedy.append(int(logits.argmax()))
            logits = feed(context, greedy[-1], position)
        away = found - ours
        print(f"llama.cpp {llama.ggml_commit()} {Path(name).name:<10} same ids of the text {tokens == ids}, greedy ids "
              f"{greedy == reference['greedy']}, logits rms {np.sqrt((away**2).mean()):.1e}, at most "
              f"{np.abs(away).max():.1e}")
        sound &= tokens == ids and (greedy == reference["greedy"] or "fp32" not in name)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
