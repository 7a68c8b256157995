"""Detectors on disk: what is written is read, by others too, and nothing hostile gets further than a sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.detection.calibration import Platt
from gpt2cli.detection.detector import Detector, LikelihoodRule
from gpt2cli.detection.detector_file import decode_detector, encode_detector, read_detector, verify_detector
from gpt2cli.detection.tfidf import TfidfModel
from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.records.artefact_kind import DETECTOR, kind_of_start

KNOWN = frozenset([b"12345678", b"abcdefgh"])
TERMS = ["of", "of the", "the", "über"]
COUNTER = Detector("tfidf", 30, Platt(2.0, -0.5), np.array([0.5, -1.0]), np.array([2.0]), KNOWN,
                   TfidfModel(TERMS, np.array([1.0, 1.5, 2.0, 1.25]), np.array([0.1, -2.0, 3.0, 0.0]), -0.25),
                   training={"c": 2.0})
LIKELIHOOD = Detector("logprob", None, Platt(2.0, -0.5), np.array([0.5, -1.0]), np.array([2.0]), KNOWN,
                      rule=LikelihoodRule("logprob", -1, "a" * 64, "b" * 64, "tiny"))


def decode(content: bytes) -> Detector:
    import io

    return decode_detector(io.BytesIO(content), "d")


@pytest.mark.parametrize("detector", [COUNTER, LIKELIHOOD])
def test_what_is_written_is_read(detector: Detector, tmp_path: Path) -> None:
    content = encode_detector(detector)
    (tmp_path / "d").write_bytes(content)
    found = read_detector(str(tmp_path / "d"))
    assert encode_detector(found) == content
    assert (found.method, found.words, found.platt, found.known, found.rule, found.training) == (
        detector.method, detector.words, detector.platt, detector.known, detector.rule, detector.training)
    assert found.human.tolist() == [-1.0, 0.5] and found.generated.tolist() == [2.0]
    if detector.tfidf is not None and found.tfidf is not None:
        assert list(found.tfidf.terms) == TERMS
        assert found.tfidf.score(["of the über x"]) == detector.tfidf.score(["of the über x"])


def test_it_is_a_safetensors_file_to_others() -> None:
    tensors = safetensors.numpy.load(encode_detector(COUNTER))
    assert tensors["idf"].tolist() == [1.0, 1.5, 2.0, 1.25]
    assert tensors["terms"].tobytes().decode().split("\n") == TERMS
    assert kind_of_start(encode_detector(COUNTER), "d") == DETECTOR
    assert kind_of_start(safetensors.numpy.save(tensors), "d") == "weights"


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["gpt2.detector"]), content[8 + length :]


def sealed(header: dict[str, Any], info: dict[str, Any], data: bytes) -> bytes:
    """Return a file with whatever content, whose seal holds."""
    info = {**info, "sha256": "0" * 64} if "sha256" in info else info
    header["__metadata__"] = {"gpt2.detector": json.dumps(info, separators=(",", ":"))}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    content = len(encoded).to_bytes(8, "little") + encoded + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


VALUES = [None, -1, 0, 2.5, 1 << 60, "x", [], {}, True, 1e308, "tfidf", "logprob"]


@pytest.mark.parametrize("detector", [COUNTER, LIKELIHOOD])
def test_a_sealed_file_with_a_wrong_field_is_refused_or_means_something(detector: Detector) -> None:
    refused = 0
    for name in parts(encode_detector(detector))[1]:
        for value in VALUES if name != "sha256" else []:
            header, info, data = parts(encode_detector(detector))
            info[name] = value
            try:
                decode(sealed(header, info, data))
            except BadInput:
                refused += 1
    assert refused > 60
    for name in ("method", "words", "slope", "training"):
        header, info, data = parts(encode_detector(detector))
        del info[name]
        with pytest.raises(BadInput, match="missing or has the wrong form"):
            decode(sealed(header, info, data))


@pytest.mark.parametrize(("name", "content"), [
    ("idf", np.array([0.5, 1.0, 1.0, 1.0])), ("idf", np.array([np.nan, 1.0, 1.0, 1.0])),
    ("coefficients", np.array([np.inf, 1.0, 1.0, 1.0])),
    ("terms", np.frombuffer(b"of\nof\nthe\n\xc3\xbcber", np.uint8)),
    ("terms", np.frombuffer(b"of\xff\nof the\nthe\n", np.uint8)), ("calibration_human", np.zeros(0)),
    ("known", np.frombuffer(b"123", np.uint8)), ("idf", np.ones(4, dtype=np.float32)), ("idf", np.ones((2, 2))),
])
def test_a_sealed_file_with_wrong_arrays_is_refused(name: str, content: np.ndarray) -> None:
    tensors = {**safetensors.numpy.load(encode_detector(COUNTER)), name: content}
    header, _, data = parts_of_safetensors(tensors)
    with pytest.raises(BadInput, match="missing or has the wrong form"):
        decode(sealed({"__metadata__": {}, **header}, parts(encode_detector(COUNTER))[1], data))


def parts_of_safetensors(tensors: dict[str, np.ndarray]) -> tuple[dict[str, Any], None, bytes]:
    content = safetensors.numpy.save(tensors)
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), None, content[8 + length :]


def test_a_lacking_and_an_additional_array_are_refused() -> None:
    for change in ({"more": np.zeros(2)}, {"idf": None}):
        tensors = {**safetensors.numpy.load(encode_detector(COUNTER)), **change}
        header, _, data = parts_of_safetensors({name: value for name, value in tensors.items() if value is not None})
        with pytest.raises(BadInput, match="missing or has the wrong form"):
            decode(sealed({"__metadata__": {}, **header}, parts(encode_detector(COUNTER))[1], data))


@given(st.integers(0, len(encode_detector(COUNTER)) - 1), st.integers(1, 255))
def test_one_changed_byte_is_noticed(place: int, change: int) -> None:
    content = bytearray(encode_detector(COUNTER))
    content[place] ^= change
    with pytest.raises(Gpt2Error):
        decode(bytes(content))


def test_every_byte_counts() -> None:
    content = encode_detector(COUNTER)
    for place in range(len(content)):
        with pytest.raises(Gpt2Error):
            decode(content[:place] + bytes([content[place] ^ 0x29]) + content[place + 1 :])


@given(st.integers(0, len(encode_detector(COUNTER)) - 1))
def test_a_file_that_was_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(BadInput):
        decode(encode_detector(COUNTER)[:length])


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_it_fail_otherwise(data: bytes, begun: bool) -> None:
    start = len(data).to_bytes(8, "little") + b'{"__metadata__":{"gpt2.detector":' if begun else b""
    with pytest.raises(Gpt2Error):
        decode(start + data)


def test_newer_missing_huge_and_foreign_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, info, data = parts(encode_detector(COUNTER))
    with pytest.raises(BadInput, match=r"gpt2.detector/2 was written by a newer gpt2"):
        decode(sealed(header, {**info, "schema": "gpt2.detector/2"}, data))
    with pytest.raises(UsageFault, match="there is no"):
        read_detector(str(tmp_path / "none"))
    (tmp_path / "pickle").write_bytes(b"\x80\x05" + b"." * 100)
    with pytest.raises(BadInput, match="is no detector; gpt2 detect train makes one"):
        read_detector(str(tmp_path / "pickle"))
    claims = (1 << 40).to_bytes(8, "little") + encode_detector(COUNTER)[8:]
    with pytest.raises(BadInput, match="its header claims"):
        decode(claims)
    monkeypatch.setattr("gpt2cli.detection.detector_file.MAX_BYTES", 500)
    (tmp_path / "huge").write_bytes(encode_detector(COUNTER))
    with pytest.raises(BadInput, match="which no detector is"):
        read_detector(str(tmp_path / "huge"))


def test_verify_says_what_it_is_or_what_is_wrong(tmp_path: Path) -> None:
    import io

    content = encode_detector(COUNTER)
    sound = verify_detector(io.BytesIO(content), "d")
    assert sound.problems == [] and sound.facts == {"method": "tfidf", "words": 30, "terms": 4}
    damaged = verify_detector(io.BytesIO(content[:-3] + b"abc"), "d")
    assert damaged.status == 65 and "not what its sha256 says" in damaged.problems[0]
