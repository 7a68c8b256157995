"""The verdict of `gpt2 verify` on a Bloom filter."""

from __future__ import annotations

import os
from typing import BinaryIO

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.overlap.bloom import HEADER_BYTES, check_bloom, read_header
from gpt2cli.records.artefact_kind import BLOOM
from gpt2cli.records.verify import Verdict
from gpt2cli.reporter import Silent


def verify_bloom(stream: BinaryIO, name: str, quick: bool) -> Verdict:
    """Check a filter: header, size, digest of the bits. quick: header and size of the file `name` alone."""
    try:
        if quick:
            header = read_header(stream.read(HEADER_BYTES), name)
            if os.path.getsize(name) != HEADER_BYTES + header.bits // 8:
                raise BadInput(f"{name} has {os.path.getsize(name):,} bytes and should have "
                               f"{HEADER_BYTES + header.bits // 8:,}: it was cut short or replaced")
        else:
            header = check_bloom(stream, name, Silent())
    except Gpt2Error as error:
        return Verdict(BLOOM, [str(error)])
    return Verdict(BLOOM, [], {"n": header.n, "n_grams": header.n_grams, "documents": header.documents,
                               "false_positive_rate": header.false_positive_rate})
