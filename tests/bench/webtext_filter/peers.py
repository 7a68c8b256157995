"""What a person would run instead: KIND DOCUMENTS, JSONL in, kept documents to standard output, a whole process each.

KIND: loop       JSON, pycld2 and tiktoken's GPT-2 encoding of every whole text, as scripts that rebuild WebText do
      datatrove  its GopherQualityFilter and GopherRepetitionFilter (an interpreter of its own: DATATROVE=python)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def loop() -> Callable[[str], bool]:
    """Return whether a text is English by CLD2 and has 128 GPT-2 tokens."""
    import pycld2
    import tiktoken

    from gpt2cli.tokens.vocabulary import gpt2_vocabulary

    vocabulary = gpt2_vocabulary()
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    encoding = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=vocabulary.ranks,
                                 special_tokens={"<|endoftext|>": vocabulary.eot})

    def keep(text: str) -> bool:
        try:
            _, _, found = pycld2.detect(text)
        except pycld2.error:
            return False
        return found[0][1] == "en" and found[0][2] >= 50 and len(encoding.encode_ordinary(text)) >= 128

    return keep


def datatrove() -> Callable[[str], bool]:
    """Return whether datatrove's Gopher filters keep a text."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    filters: list[Any] = [GopherQualityFilter(), GopherRepetitionFilter()]

    def keep(text: str) -> bool:
        document = Document(text=text, id="0")
        return all(one.filter(document) is True for one in filters)

    return keep


if __name__ == "__main__":
    judge = {"loop": loop, "datatrove": datatrove}[sys.argv[1]]()
    with open(sys.argv[2], encoding="utf-8") as documents:
        for line in documents:
            if judge(json.loads(line)["text"]):
                sys.stdout.write(line)
