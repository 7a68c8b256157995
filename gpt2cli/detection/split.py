"""Texts divided into parts by a hash, so that the same text is in the same part whatever else is given.

Texts that continue the same prompt (a sample, and how a person went on) share a key, and so a part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gpt2cli.detection.texts import Text

VALIDATION, CALIBRATION = 0.125, 0.25
"""Shares of what is not for testing: to choose the regularization, and to calibrate."""
_SALT = b"gpt2 detect "
DIGEST_BYTES = 8
"""Bytes of a sha256 by which a detector remembers a text."""


@dataclass(frozen=True)
class Parts:
    """One side's texts by what they are for."""

    fit: list[Text]
    validation: list[Text]
    calibration: list[Text]
    test: list[Text]


def place(key: str) -> float:
    """Return where a key falls in [0, 1): the first 8 bytes of a salted sha256."""
    digest = hashlib.sha256(_SALT + key.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def divide(texts: Sequence[Text], test_fraction: float) -> Parts:
    """Return the texts of one side by part, in order."""
    rest = 1 - test_fraction
    ends = (test_fraction, test_fraction + rest * CALIBRATION, test_fraction + rest * (CALIBRATION + VALIDATION))
    parts = Parts([], [], [], [])
    for text in texts:
        at = place(text.key)
        part = (parts.test if at < ends[0] else parts.calibration if at < ends[1] else
                parts.validation if at < ends[2] else parts.fit)
        part.append(text)
    return parts


def digests(texts: Sequence[Text]) -> set[bytes]:
    """Return the digests by which texts, and those that share their prompt, are known again."""
    return {bytes.fromhex(digest)[:DIGEST_BYTES] for text in texts for digest in (text.id, text.key)}


def is_known(text: Text, known: AbstractSet[bytes]) -> bool:
    """Whether a text, or one that shares its prompt, is among those of `known`."""
    return any(bytes.fromhex(digest)[:DIGEST_BYTES] in known for digest in (text.id, text.key))
