"""What a person would write instead: FastWARC over a file, trafilatura or resiliparse on each page, JSON lines out."""

from __future__ import annotations

import json
import sys

from fastwarc.warc import ArchiveIterator, WarcRecordType


def main(extractor: str, path: str) -> None:
    """Write a line for every response with text."""
    if extractor == "trafilatura":
        from trafilatura import extract

        def text_of(body: bytes) -> str | None:
            return extract(body, include_comments=False)
    else:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.encoding import bytes_to_str, detect_encoding

        def text_of(body: bytes) -> str | None:
            return extract_plain_text(bytes_to_str(body, detect_encoding(body)), main_content=True)

    with open(path, "rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response):
            if text := text_of(record.reader.read()):
                print(json.dumps({"url": record.headers["WARC-Target-URI"], "text": text}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
