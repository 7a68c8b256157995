"""Vocabularies: GPT-2's against the published digests, and every form of file against every other."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.tokens import vocabulary as vocab
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, load_vocabulary, recover_merges

R50K_BASE = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
DATA = Path(vocab.__file__).parent / "data"


@pytest.fixture(scope="module")
def small() -> Vocabulary:
    """256 bytes, `th`, `the`, ` the`, end-of-text."""
    return vocab.vocabulary_from_merges([(b"t", b"h"), (b"th", b"e"), (b" ", b"the")], "test")


def test_gpt2s_table_is_openais_and_gives_the_published_ranks() -> None:
    assert hashlib.sha256((DATA / "vocab.bpe").read_bytes()).hexdigest() == vocab.VOCAB_BPE_SHA256
    gpt2 = gpt2_vocabulary()
    assert hashlib.sha256(gpt2.tiktoken_text().encode()).hexdigest() == R50K_BASE
    assert (gpt2.n_vocab, gpt2.eot, gpt2.is_gpt2) == (50257, 50256, True)
    assert "2019 OpenAI" in (DATA / "LICENSE-openai").read_text()


def test_a_changed_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocab, "VOCAB_BPE_SHA256", "0" * 64)
    with pytest.raises(BadInput, match="sha256 differs"):
        gpt2_vocabulary.__wrapped__()


def test_every_form_is_the_same_vocabulary(tmp_path: Path) -> None:
    gpt2 = gpt2_vocabulary()
    (tmp_path / "canonical").write_text(gpt2.canonical())
    (tmp_path / "r50k_base.tiktoken").write_text(gpt2.tiktoken_text())
    for path in (tmp_path / "canonical", tmp_path / "r50k_base.tiktoken", DATA / "vocab.bpe"):
        found = load_vocabulary(path)
        assert (found, found.sha256) == (gpt2, gpt2.sha256)


def test_identity_is_the_digest_of_the_file_that_bpe_train_writes(small: Vocabulary, tmp_path: Path) -> None:
    text = small.canonical()
    assert text.endswith("dGhl 257\nIHRoZQ== 258\n<|endoftext|> 259\n")
    assert small.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert vocab.vocabulary_from_canonical(text, "x") == small
    assert not small.is_gpt2


def test_environment_names_the_default(small: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v").write_text(small.canonical())
    monkeypatch.setenv("GPT2_VOCAB", str(tmp_path / "v"))
    assert load_vocabulary(None) == small
    monkeypatch.delenv("GPT2_VOCAB")
    assert load_vocabulary(None).is_gpt2


def test_merges_are_recovered_from_ranks(small: Vocabulary) -> None:
    assert recover_merges(small) == [(b"t", b"h"), (b"th", b"e"), (b" ", b"the")]
    lines = (DATA / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    alphabet = vocab.byte_alphabet()
    for pair, line in zip(recover_merges(gpt2_vocabulary()), lines, strict=True):
        assert " ".join("".join(alphabet[byte] for byte in part) for part in pair) == line


@pytest.mark.parametrize(("change", "words"), [
    (lambda text: text.replace("IQ== 0\n", ""), "lacks the byte 0x21"),
    (lambda text: text.replace("dGhl 257", "dGhl 300"), "ids are not 0 to 259"),
    (lambda text: text.replace("dGhl 257", "dGhl 256"), "ids are not 0 to 259"),
    (lambda text: text.replace("dGhl 257", "dGg= 257"), "line 258 holds an empty or repeated token"),
    (lambda text: text.replace("dGhl 257", "dGhl!257"), "line 258 is no"),
    (lambda text: text.replace("dGhl 257", "d*hl 257"), "line 258 is no"),
    (lambda text: text + "<|endoftext|> 259\n", "a second time"),
    (lambda text: "hello", "line 1 is no"),
    (lambda text: "", "lacks the byte"),
])
def test_a_broken_file_is_refused_in_a_sentence(small: Vocabulary, tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "v"
    path.write_text(change(small.canonical()))
    with pytest.raises(BadInput, match=words) as caught:
        load_vocabulary(path)
    assert str(path) in str(caught.value)


def test_other_refusals(small: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="no vocabulary at"):
        load_vocabulary(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8 at byte 0"):
        load_vocabulary(tmp_path / "binary")
    (tmp_path / "merges").write_text("#version: 0.2\nt h\nq zz\n")
    with pytest.raises(BadInput, match="uses an unknown token"):
        load_vocabulary(tmp_path / "merges")
    orphan = vocab.vocabulary_from_canonical(small.canonical().replace("dGg= 256", "eHl6 256"), "x")
    with pytest.raises(BadInput, match="token 256"):
        recover_merges(orphan)


def test_a_shard_vocabulary_must_be_the_one_named(small: Vocabulary) -> None:
    assert vocab.vocabulary_of(small.canonical(), small.sha256, "x") == small
    assert vocab.vocabulary_of(None, gpt2_vocabulary().sha256, "x").is_gpt2
    with pytest.raises(BadInput, match="doesn't carry"):
        vocab.vocabulary_of(None, small.sha256, "x")
