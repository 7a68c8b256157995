"""What a person would run instead: KIND RANKS DOCUMENTS OUTPUT, JSONL in, one token file out, a whole process each.

KIND: bare      JSON, encode_to_numpy, an end-of-text; nothing is written (the yardstick)
      loop      the plain tiktoken loop: encode_ordinary, zstd
      threads   tiktoken's encode_ordinary_batch on two threads, 1,000 documents at a time, zstd
      huggingface   tokenizers' encode_batch_fast (threads of its own), 1,000 documents at once, zstd; RANKS is its json
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""tiktoken's own spelling of GPT-2's pattern (tiktoken_ext/openai_public.py)."""
EOT = 50256


def tiktoken_encoding(path: str) -> Any:
    """Return GPT-2's encoding from a file of ranks; tiktoken itself would ask the network for them."""
    import tiktoken

    with open(path, encoding="ascii") as file:
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, file)}
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": EOT})


def bare(ranks: str, texts: Iterator[str]) -> Iterator[Any]:
    """Encode one document after the other to arrays, and drop them."""
    encoding = tiktoken_encoding(ranks)
    for text in texts:
        encoding.encode_to_numpy(text, disallowed_special=())
    yield from ()


def loop(ranks: str, texts: Iterator[str]) -> Iterator[Any]:
    """Yield the ids of one document after the other."""
    encoding = tiktoken_encoding(ranks)
    for text in texts:
        yield encoding.encode_ordinary(text)


def threads(ranks: str, texts: Iterator[str]) -> Iterator[Any]:
    """Yield the ids of many documents, encoded by two threads."""
    encoding = tiktoken_encoding(ranks)
    while many := list(itertools.islice(texts, 1000)):
        yield from encoding.encode_ordinary_batch(many, num_threads=2)


def huggingface(path: str, texts: Iterator[str]) -> Iterator[Any]:
    """Yield the ids of many documents, encoded by Hugging Face's threads."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    while many := list(itertools.islice(texts, 1000)):
        for encoded in tokenizer.encode_batch_fast(many, add_special_tokens=False):
            yield encoded.ids


def main(kind: str, ranks: str, documents: str, output: str) -> None:
    """Encode every document."""
    import numpy as np
    import zstandard

    ways = {"bare": bare, "loop": loop, "threads": threads, "huggingface": huggingface}
    with open(documents, encoding="utf-8") as file, open(output, "wb") as out, \
            zstandard.ZstdCompressor(level=3).stream_writer(out) as stream:
        for ids in ways[kind](ranks, (json.loads(line)["text"] for line in file)):
            stream.write(np.asarray([*ids, EOT], dtype="<u2").tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
