"""GPT-2's vocabulary against OpenAI's published digests, and where it comes from when it is not packaged."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.tokens import openai_files
from gpt2cli.tokens.export_vocabulary import export_directory, vocabulary_file
from gpt2cli.tokens.openai_files import ENCODER_JSON, R50K_BASE, VOCAB_BPE, packaged_path
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, load_vocabulary

PUBLISHED = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "tiktoken": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
}
NO_NETWORK = """
import socket
def refuse(*a, **k):
    raise SystemExit("the network was asked for")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = socket.socket.connect_ex = refuse
"""


@pytest.fixture
def unpackaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where vocab.bpe would be packaged, and is not."""
    monkeypatch.setattr(openai_files, "packaged_path", lambda: tmp_path / "packaged.bpe")
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    return tmp_path / "packaged.bpe"


def fresh() -> Vocabulary:
    return gpt2_vocabulary.__wrapped__()


@pytest.mark.parametrize("kind", PUBLISHED)
def test_openais_files_are_rebuilt_byte_for_byte(kind: str) -> None:
    assert hashlib.sha256(vocabulary_file(gpt2_vocabulary(), kind)).hexdigest() == PUBLISHED[kind]


def test_the_packaged_table_is_openais_with_its_notice() -> None:
    assert hashlib.sha256(packaged_path().read_bytes()).hexdigest() == PUBLISHED["vocab.bpe"]
    notice = (packaged_path().parent / "LICENSE-openai").read_text()
    assert "Modified MIT License" in notice and "Copyright (c) 2019 OpenAI" in notice
    gpt2 = gpt2_vocabulary()
    assert (gpt2.n_vocab, gpt2.eot, gpt2.is_gpt2) == (50257, 50256, True)
    assert gpt2.sha256 == openai_files.GPT2_TOKENIZER_SHA256
    assert gpt2.ranks[b"Hello"] == 15496


def test_constants_are_tiktokens() -> None:
    """Addresses and digests as the installed tiktoken has them: the cache's names follow from the addresses."""
    import inspect

    from tiktoken_ext import openai_public

    source = inspect.getsource(openai_public.gpt2) + inspect.getsource(openai_public.r50k_base)
    for file in (VOCAB_BPE, ENCODER_JSON, R50K_BASE):
        assert f'"{file.url}"' in source and f'"{file.sha256}"' in source


@pytest.mark.parametrize("kept", [VOCAB_BPE, R50K_BASE])
@pytest.mark.parametrize("packaged", [None, b"damaged"])
def test_tiktokens_cache_serves_when_the_package_does_not(
    unpackaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: openai_files.OpenAIFile,
    packaged: bytes | None) -> None:
    if packaged is not None:
        unpackaged.write_bytes(packaged)
    export_directory(gpt2_vocabulary(), "cache-dir", tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        if path.name != kept.cache_name:
            path.unlink()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    assert fresh() == gpt2_vocabulary()


def test_the_package_wins_over_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert openai_files.find_table()[1] == str(packaged_path())


def test_without_any_sound_file_everything_wrong_is_said(unpackaged: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"packaged.bpe cannot be read.*\$TIKTOKEN_CACHE_DIR is not set"):
        fresh()
    unpackaged.write_bytes(b"#version: 0.2\n")
    (tmp_path / VOCAB_BPE.cache_name).write_bytes(b"changed")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(BadInput, match=r"packaged.bpe is damaged.*damaged.*vocab\.bpe.*cannot be read.*r50k_base"):
        fresh()


def test_a_vocabulary_of_ones_own_needs_neither(unpackaged: Path, vocabulary_file: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt2cli.tokens.vocabulary.gpt2_vocabulary", fresh)
    assert not load_vocabulary(vocabulary_file).is_gpt2


def test_no_socket_and_no_get_encoding(tmp_path: Path) -> None:
    """With tiktoken's cache empty, so that get_encoding would have to ask the network."""
    program = NO_NETWORK + """
import tiktoken
tiktoken.get_encoding = tiktoken.encoding_for_model = tiktoken.registry.get_encoding = refuse
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.vocabulary import load_vocabulary
print(Encoder(load_vocabulary(None)).encode("Hello world").tolist())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                            cwd=Path(__file__).parents[2], env={"TIKTOKEN_CACHE_DIR": str(tmp_path)}, timeout=60)
    assert (result.stdout, result.returncode) == ("[15496, 995]\n", 0), result.stderr


def test_an_exported_cache_makes_tiktoken_work_without_a_network(tmp_path: Path) -> None:
    export_directory(gpt2_vocabulary(), "cache-dir", tmp_path / "cache")
    program = NO_NETWORK + """
import tiktoken
print(*(tiktoken.get_encoding(name).encode("Hello world") for name in ("gpt2", "r50k_base")))
"""

    def run(cache: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                              env={"TIKTOKEN_CACHE_DIR": str(cache)}, timeout=60)

    assert run(tmp_path / "cache").stdout == "[15496, 995] [15496, 995]\n"
    shutil.copytree(tmp_path / "cache", tmp_path / "cut")
    (tmp_path / "cut" / ENCODER_JSON.cache_name).unlink()
    assert "the network was asked for" in run(tmp_path / "cut").stderr, "else this test could not fail"
