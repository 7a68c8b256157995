"""A detector in one file without pickle: a safetensors file whose metadata is one JSON text, sealed by a sha256.

`gpt2.detector` in the metadata holds schema, settings, counts and the sha256 of the whole file as it is with 64 zeros
in the place of that sha256. Which arrays there are, and their types, follow from the method.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.detection.calibration import Platt
from gpt2cli.detection.detector import METHODS, TFIDF, Detector, LikelihoodRule
from gpt2cli.detection.split import DIGEST_BYTES
from gpt2cli.detection.tfidf import TfidfModel
from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.records.artefact_kind import DETECTOR, DETECTOR_START
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.safetensors_layout import check_safetensors
from gpt2cli.records.schemas import newer_format
from gpt2cli.records.streams import display_name, open_raw_input
from gpt2cli.records.verify import Verdict

KIND, VERSION = "gpt2.detector", 1
MAX_HEADER = 1 << 20
MAX_BYTES = 1 << 29
MAX_TERMS = 1 << 21
_PIECE = 1 << 20
_NO_SEAL = b"0" * 64
_DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "U8": np.dtype("u1")}


def encode_detector(detector: Detector) -> bytes:
    """Return the bytes of a detector's file."""
    arrays = {"calibration_human": np.sort(detector.human), "calibration_generated": np.sort(detector.generated),
              "known": np.frombuffer(b"".join(sorted(detector.known)), dtype=np.uint8)}
    info: dict[str, Any] = {
        "schema": f"{KIND}/{VERSION}", "method": detector.method, "words": detector.words,
        "slope": detector.platt.slope, "offset": detector.platt.offset, "training": detector.training,
    }
    if detector.tfidf is not None:
        model = detector.tfidf
        arrays |= {"idf": model.idf, "coefficients": model.coefficients,
                   "terms": np.frombuffer("\n".join(model.terms).encode(), dtype=np.uint8)}
        info |= {"intercept": model.intercept, "n_terms": len(model.terms)}
    if detector.rule is not None:
        rule = detector.rule
        info |= {"direction": rule.direction, "model": rule.name, "model_sha256": rule.model_sha256,
                 "tokenizer_sha256": rule.tokenizer_sha256}
    data = b"".join(array.astype(_DTYPES[_dtype(name)]).tobytes() for name, array in arrays.items())
    info["sha256"] = _NO_SEAL.decode()
    header: dict[str, Any] = {"__metadata__": {KIND: json.dumps(info, allow_nan=False, separators=(",", ":"))}}
    end = 0
    for name, array in arrays.items():
        dtype = _dtype(name)
        begin, end = end, end + len(array) * _DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": [len(array)], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    content = len(text).to_bytes(8, "little") + text + data
    return content.replace(_NO_SEAL, hashlib.sha256(content).hexdigest().encode(), 1)


def read_detector(path: str) -> Detector:
    """Read a detector (`-`: standard input).

    Raises UsageFault when it is not there, BadInput when it is damaged, hostile, or no detector.
    """
    with open_raw_input(path) as stream:
        return decode_detector(stream, display_name(path))


def decode_detector(stream: BinaryIO, name: str) -> Detector:
    """Read a detector from an open stream; see read_detector."""
    content = stream.read(8 + len(DETECTOR_START))
    if content[8:] != DETECTOR_START:
        raise BadInput(f"{name} is no detector; gpt2 detect train makes one")
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER:
        raise BadInput(f"{name}: its header claims {length:,} bytes, more than a detector has")
    content += _rest(stream, name)
    check_safetensors(io.BytesIO(content), name, len(content))
    header, data = parse_line(content[8 : 8 + length], f"{name}: its header"), content[8 + length :]
    info = _info(header, name)
    if not _is_sealed(content, 8 + length, info.get("sha256")):
        raise BadInput(f"{name} is damaged or was changed: it is not what its sha256 says; train it again")
    try:
        return _detector(info, _arrays(header, data))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise BadInput(f"{name}: a field of the detector is missing or has the wrong form") from None


def _rest(stream: BinaryIO, name: str) -> bytes:
    """Read to the end in pieces: one read of MAX_BYTES takes that much memory, however short the file is."""
    parts, size = [], 0
    while part := stream.read(_PIECE):
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            raise BadInput(f"{name} is longer than {MAX_BYTES:,} bytes, which no detector is")
    return b"".join(parts)


def verify_detector(stream: BinaryIO, name: str) -> Verdict:
    """Check a detector's seal and form."""
    try:
        detector = decode_detector(stream, name)
    except Gpt2Error as error:
        return Verdict(DETECTOR, [str(error)])
    facts: dict[str, Any] = {"method": detector.method, "words": detector.words}
    if detector.tfidf is not None:
        facts["terms"] = len(detector.tfidf.terms)
    return Verdict(DETECTOR, facts=facts)


def _info(header: dict[str, Any], name: str) -> dict[str, Any]:
    metadata = header["__metadata__"]
    text = metadata.get(KIND) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise BadInput(f"{name}: its metadata is damaged")
    info = parse_line(text.encode("utf-8", "replace"), f"{name}: its metadata")
    kind, _, version = str(info.get("schema")).partition("/")
    if kind == KIND and version.isascii() and version.isdigit() and len(version) < 6 and int(version) > VERSION:
        raise newer_format(name, KIND, int(version), VERSION)
    if (kind, version) != (KIND, str(VERSION)):
        raise BadInput(f"{name}: its metadata is damaged")
    return info


def _arrays(header: dict[str, Any], data: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            if entry["dtype"] != _dtype(name) or len(entry["shape"]) != 1:
                raise ValueError(name)
            arrays[name] = np.frombuffer(data[begin:end], dtype=_DTYPES[entry["dtype"]])
            if not np.isfinite(arrays[name]).all():
                raise ValueError(name)
    return arrays


def _detector(info: dict[str, Any], arrays: dict[str, np.ndarray]) -> Detector:
    known = arrays.pop("known").tobytes()
    human, generated = arrays.pop("calibration_human"), arrays.pop("calibration_generated")
    words = None if info["words"] is None else _whole(info["words"], 1)
    method, training = info["method"], info["training"]
    platt = Platt(_number(info["slope"]), _number(info["offset"]))
    if method not in METHODS or len(known) % DIGEST_BYTES or platt.slope < 0 or not isinstance(training, dict):
        raise ValueError(method)
    tfidf = _tfidf(info, arrays) if method == TFIDF else None
    rule = None if method == TFIDF else _rule(info)
    if arrays or not len(human) or not len(generated):
        raise ValueError("arrays")
    digests = frozenset(known[at : at + DIGEST_BYTES] for at in range(0, len(known), DIGEST_BYTES))
    return Detector(method, words, platt, human, generated, digests, tfidf, rule, training)


def _tfidf(info: dict[str, Any], arrays: dict[str, np.ndarray]) -> TfidfModel:
    n_terms = _whole(info["n_terms"], 1)
    terms = arrays.pop("terms").tobytes().decode().split("\n")
    idf, coefficients = arrays.pop("idf"), arrays.pop("coefficients")
    if not len(terms) == len(idf) == len(coefficients) == n_terms <= MAX_TERMS or len(set(terms)) != n_terms:
        raise ValueError("terms")
    if not (idf >= 1).all():
        raise ValueError("idf")
    return TfidfModel(terms, idf, coefficients, _number(info["intercept"]))


def _rule(info: dict[str, Any]) -> LikelihoodRule:
    digests = info["model_sha256"], info["tokenizer_sha256"]
    if info["direction"] not in (1, -1) or not all(isinstance(one, str) for one in (info["model"], *digests)):
        raise ValueError("rule")
    return LikelihoodRule(info["method"], _whole(info["direction"], -1), *digests, info["model"])


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _whole(value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 53:
        raise ValueError(value)
    return value


def _dtype(name: str) -> str:
    return "U8" if name in ("known", "terms") else "F64"


def _is_sealed(content: bytes, header_end: int, seal: object) -> bool:
    if not isinstance(seal, str) or len(seal) != len(_NO_SEAL) or not seal.isascii():
        return False
    place = content.find(seal.encode(), 0, header_end)
    blank = content[:place] + _NO_SEAL + content[place + len(seal) :]
    return place >= 0 and hashlib.sha256(blank).hexdigest() == seal
