"""OpenAI's published files of GPT-2's vocabulary: their digests, where tiktoken caches them, and which one is at hand.

Any of them rebuilds the others byte for byte. vocab.bpe is packaged (with its licence, data/LICENSE-openai); where a
distribution left it out or it is damaged, tiktoken's cache in $TIKTOKEN_CACHE_DIR serves, if its file has the digest.
Nothing is ever downloaded, and `tiktoken.get_encoding`, which may, is never called.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import BadInput
from gpt2cli.records.named_file import read_named

CACHE_VARIABLE = "TIKTOKEN_CACHE_DIR"
GPT2_TOKENIZER_SHA256 = "538380df8fc0b84316e3c2be2775271af10e33e7f5e1a5bae9a38f0c45798cbf"
"""tokenizer_sha256 of GPT-2's vocabulary: r50k_base.tiktoken and the line of end-of-text."""
_BLOBS = "https://openaipublic.blob.core.windows.net"


@dataclass(frozen=True)
class OpenAIFile:
    """A published file: the address that tiktoken knows it by, and its sha256."""

    name: str
    url: str
    sha256: str

    @property
    def cache_name(self) -> str:
        """Its name in tiktoken's cache: the sha1 of its address."""
        return hashlib.sha1(self.url.encode(), usedforsecurity=False).hexdigest()

    def is_whole(self, data: bytes) -> bool:
        """Whether `data` is this very file."""
        return hashlib.sha256(data).hexdigest() == self.sha256


VOCAB_BPE = OpenAIFile("vocab.bpe", f"{_BLOBS}/gpt-2/encodings/main/vocab.bpe",
                       "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5")
ENCODER_JSON = OpenAIFile("encoder.json", f"{_BLOBS}/gpt-2/encodings/main/encoder.json",
                          "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783")
R50K_BASE = OpenAIFile("r50k_base.tiktoken", f"{_BLOBS}/encodings/r50k_base.tiktoken",
                       "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930")
CACHED = (VOCAB_BPE, ENCODER_JSON, R50K_BASE)
"""What tiktoken's `gpt2` (the first two) and `r50k_base` (the third) look for in their cache."""


def packaged_path() -> Path:
    """Return where vocab.bpe lies in this installation, or should."""
    return Path(__file__).parent / "data" / VOCAB_BPE.name


def find_table() -> tuple[str, str]:
    """Return (text, file) of a sound vocab.bpe or r50k_base.tiktoken: the packaged one, else of $TIKTOKEN_CACHE_DIR.

    Raises BadInput, which says what is wrong with each, when there is none.
    """
    path = packaged_path()
    found, fault = _sound(VOCAB_BPE, path)
    if found is not None:
        return found, str(path)
    faults, cache = [fault], os.environ.get(CACHE_VARIABLE)
    if cache:
        for file in (VOCAB_BPE, R50K_BASE):
            path = Path(cache) / file.cache_name
            found, fault = _sound(file, path)
            if found is not None:
                return found, str(path)
            faults.append(f"{fault} (tiktoken's {file.name})")
    else:
        faults.append(f"${CACHE_VARIABLE} is not set")
    raise BadInput(f"GPT-2's vocabulary is not here: {'; '.join(faults)}. Install gpt2cli again, or give --vocab")


def _sound(file: OpenAIFile, path: Path) -> tuple[str | None, str]:
    """Return (text, "") or (None, what is wrong)."""
    try:
        data = read_named(path)
    except OSError as error:
        return None, f"{path} cannot be read ({error.strerror})"
    if not file.is_whole(data):
        return None, f"{path} is damaged: its sha256 differs"
    return data.decode(), ""
