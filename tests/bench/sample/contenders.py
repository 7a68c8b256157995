"""The contenders of tests/bench/sample/run, each a process of its own: `contenders.py NAME DIRECTORY THREADS`.

DIRECTORY holds the model in every form (`model`, `int8`, `int4`, `ct2-KIND`, `KIND.gguf`). A line "BATCH CONTEXT STEPS"
on standard input asks for the milliseconds of one decoding step, BATCH equal rows that already hold CONTEXT tokens, as
the mean of STEPS greedy steps; the answer is a line. Exits 3 when a package is missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Step = Callable[[], None]
FTYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}
"""llama.cpp's numbers of the types that its quantiser writes."""


def prompt(context: int) -> list[int]:
    """Return `context` ids."""
    return [(7919 * place + 11) % 50257 for place in range(context)]


def ours(dtype: str, place: Path) -> Callable[[int, int], Step]:
    """gpt2cli's own feed, as `gpt2 sample` uses it."""
    import torch

    from gpt2cli.model.weights import load_model
    from gpt2cli.sampling.feed import CachedFeed

    integer = dtype.startswith("int")
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype, torch.float32)
    model = load_model(place / (dtype if integer else "model"), dtype=kind, prefer_integer=integer).model

    def start(batch: int, context: int) -> Step:
        feed = CachedFeed(model, [tuple(prompt(context))] * batch, min(1024, context + 64))
        rows = range(batch)
        return lambda: feed.step(feed.logits_BV.argmax(dim=1).tolist(), rows)

    return start


def transformers(dtype: str, place: Path) -> Callable[[int, int], Step]:
    """transformers' GPT2LMHeadModel with its cache, without generate()'s overhead."""
    import torch
    from transformers import GPT2LMHeadModel

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = GPT2LMHeadModel.from_pretrained(place / "model", dtype=kind).eval()

    def start(batch: int, context: int) -> Step:
        state: dict[str, Any] = {}
        with torch.inference_mode():
            made = model(torch.tensor([prompt(context)] * batch), use_cache=True, logits_to_keep=1)
        state["cache"], state["ids"] = made.past_key_values, made.logits[:, -1].argmax(1, keepdim=True)

        def step() -> None:
            with torch.inference_mode():
                made = model(state["ids"], past_key_values=state["cache"], use_cache=True)
            state["cache"], state["ids"] = made.past_key_values, made.logits[:, -1].argmax(1, keepdim=True)

        return step

    return start


def nanogpt(dtype: str, place: Path) -> Callable[[int, int], Step]:
    """What nanoGPT's generate does: the whole text through the network for every token."""
    import torch

    from gpt2cli.model.weights import load_model

    model = load_model(place / "model").model

    def start(batch: int, context: int) -> Step:
        state = {"ids": torch.tensor([prompt(context)] * batch)}

        def step() -> None:
            with torch.inference_mode():
                chosen = model.logits(model(state["ids"])[:, -1]).argmax(1, keepdim=True)
            state["ids"] = torch.cat([state["ids"], chosen], dim=1)[:, -1024:]

        return step

    return start


def llama_cpp(kind: str, place: Path) -> Callable[[int, int], Step]:
    """llama.cpp by way of cyllama; the rows are sequences of one batch."""
    import cyllama.llama.llama_cpp as llama
    import numpy as np

    llama.disable_logging()
    llama.llama_backend_init()
    path = place / f"{kind}.gguf"
    if not path.exists():
        options = llama.LlamaModelQuantizeParams()
        options.ftype = FTYPES[kind]
        llama.model_quantize(str(place / "f32.gguf"), str(path), options)

    class Model(llama.LlamaModel):
        """cyllama 0.2 asks its model for a number that it has not."""

        n_vocab = 50_257

    model = Model(str(path), llama.LlamaModelParams())

    def start(batch: int, context: int) -> Step:
        options = llama.LlamaContextParams()
        options.n_seq_max, options.n_ctx = batch, batch * min(1024, context + 64)
        options.n_batch = options.n_ubatch = max(512, batch)
        options.n_threads = options.n_threads_batch = int(sys.argv[3])
        session = llama.LlamaContext(model, options)
        ids = prompt(context)
        for row in range(batch):
            for begin in range(0, context, 256):
                piece = llama.LlamaBatch(n_tokens=256, embd=0, n_seq_max=1)
                for place_, token in enumerate(ids[begin : begin + 256], begin):
                    piece.add(token, place_, [row], place_ == context - 1)
                session.decode(piece)
        state = {"at": context, "ids": [1] * batch}

        def step() -> None:
            piece = llama.LlamaBatch(n_tokens=batch, embd=0, n_seq_max=1)
            for row, token in enumerate(state["ids"]):
                piece.add(token, state["at"], [row], True)
            session.decode(piece)
            state["ids"] = [int(np.asarray(session.get_logits_ith(row)).argmax()) for row in range(batch)]
            state["at"] += 1

        return step

    return start


def ctranslate2(kind: str, place: Path) -> Callable[[int, int, int], float]:
    """CTranslate2 generates by itself and calls back at every token: the mean time between the calls."""
    import ctranslate2

    generator = ctranslate2.Generator(str(place / f"ct2-{kind}"), intra_threads=int(sys.argv[3]), inter_threads=1)
    words = [bytes([33 + place_ % 90]).decode() for place_ in range(1024)]

    def generate(batch: int, context: int, steps: int) -> float:
        seen: list[float] = []

        def note(step: Any) -> bool:
            if step.batch_id == 0:
                seen.append(time.perf_counter())
            return False

        generator.generate_batch([words[:context]] * batch, max_length=steps + 1, min_length=steps + 1, sampling_topk=1,
                                 include_prompt_in_result=False, cache_static_prompt=False, callback=note)
        return (seen[-1] - seen[0]) / (len(seen) - 1)

    return generate


MAKERS: dict[str, Callable[[str, Path], Any]] = {
    "gpt2cli": ours, "transformers": transformers, "nanoGPT": nanogpt, "llama.cpp": llama_cpp,
    "CTranslate2": ctranslate2,
}


def main() -> None:
    """Answer until standard input ends."""
    maker, _, kind = sys.argv[1].partition(" ")
    try:
        if maker in ("gpt2cli", "transformers", "nanoGPT"):
            import torch

            torch.set_num_threads(int(sys.argv[3]))
        start = MAKERS[maker](kind, Path(sys.argv[2]))
    except ImportError as error:
        print(error.name or error, file=sys.stderr)
        sys.exit(3)
    print("ready", flush=True)
    ready: dict[tuple[int, int], Step] = {}
    for line in sys.stdin:
        batch, context, steps = map(int, line.split())
        if maker == "CTranslate2":
            print(start(batch, context, steps) * 1e3, flush=True)
            continue
        if (batch, context) not in ready:
            ready.clear()
            ready[batch, context] = start(batch, context)
            ready[batch, context]()
        begin = time.perf_counter()
        for _ in range(steps):
            ready[batch, context]()
        print((time.perf_counter() - begin) / steps * 1e3, flush=True)


if __name__ == "__main__":
    main()
