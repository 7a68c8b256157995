"""The loop that a person would write: RANKS DOCUMENTS OUTPUT. Reads JSONL, encodes each text, writes zstd uint16."""

from __future__ import annotations

import base64
import json
import sys

import numpy as np
import tiktoken
import zstandard

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""tiktoken's own spelling of GPT-2's pattern (tiktoken_ext/openai_public.py)."""


def main(ranks_path: str, documents: str, output: str) -> None:
    """Encode one document after the other."""
    with open(ranks_path, encoding="ascii") as file:
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, file)}
    eot = len(ranks)
    encoding = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": eot})
    with open(documents, encoding="utf-8") as file, open(output, "wb") as out, \
            zstandard.ZstdCompressor(level=3).stream_writer(out) as stream:
        for line in file:
            ids = encoding.encode_ordinary(json.loads(line)["text"])
            stream.write(np.asarray([*ids, eot], dtype="<u2").tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
