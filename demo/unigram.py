#!/usr/bin/env python3
"""What a model that knows only how often each token occurs would score: the bar that learning has to clear.

    python demo/unigram.py SHARDS

prints the cross-entropy, in nats a token, of the validation split under the token frequencies of the training split
(one added to every count, so that a token never seen costs something finite).
"""

from __future__ import annotations

import json
import sys

import numpy as np

from gpt2cli.records.shard_set import load_shard_set


def main() -> None:
    """Print one JSON object."""
    shards = load_shard_set(sys.argv[1])
    counts = {}
    for split in ("train", "val"):
        with shards.open(split) as tokens:
            counts[split] = np.bincount(tokens.read(0, len(tokens)), minlength=shards.n_vocab)
    p = (counts["train"] + 1) / (counts["train"] + 1).sum()
    nats = -float((counts["val"] * np.log(p)).sum() / counts["val"].sum())
    print(json.dumps({"nats_per_token": round(nats, 4), "n_vocab": shards.n_vocab}))


if __name__ == "__main__":
    main()
