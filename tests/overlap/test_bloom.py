"""Bloom filters: nothing that was put in is missed, the promised rate holds, and damaged files are refused."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.overlap.bloom import HEADER_BYTES, RATE, BloomFilter, bits_for, check_bloom
from gpt2cli.overlap.build_bloom import BloomConfig, build_bloom
from gpt2cli.overlap.measure import OverlapConfig, measure_overlap
from gpt2cli.overlap.ngram_hashes import NgramHashes, WordDigests
from gpt2cli.records.provenance import json_sha256
from gpt2cli.reporter import Silent


@pytest.fixture
def train(tmp_path: Path) -> str:
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefgh", k=5)) for _ in range(2000)]
    lines = [json.dumps({"text": " ".join(draw.choices(words, k=draw.randint(1, 300)))}) + "\n" for _ in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    return str(tmp_path / "train.jsonl")


def build(path: str, n: int = 4, capacity: int | None = None, rate: float = RATE, jobs: int = 1) -> bytes:
    stream = io.BytesIO()
    build_bloom(BloomConfig((path,), n, rate=rate, capacity=capacity, jobs=jobs), stream, Silent())
    return stream.getvalue()


def opened(data: bytes, tmp_path: Path) -> BloomFilter:
    (tmp_path / "a.bloom").write_bytes(data)
    return BloomFilter.open(str(tmp_path / "a.bloom"), Silent())


def test_a_filter_tells_what_the_exact_index_tells(train: str, tmp_path: Path) -> None:
    texts = [json.loads(line)["text"] for line in Path(train).read_text().splitlines()[::7]]
    (tmp_path / "test.jsonl").write_text("".join(
        json.dumps({"text": f"strange {text} words {text[:90]} \u4e2d {'x' * 1025} {text[9:200]}"}) + "\n"
        for text in texts))
    (tmp_path / "a.bloom").write_bytes(build(train))

    def records(**side: object) -> list[tuple[str, dict[str, object]]]:
        config = OverlapConfig(tests=(str(tmp_path / "test.jsonl"),), **side)  # type: ignore[arg-type]
        return list(measure_overlap(config, lambda path: [], Silent()))

    exact, bloom = records(train=(train,), n=4), records(train=(), bloom=str(tmp_path / "a.bloom"))
    assert exact[:-1] == bloom[:-1] and 0 < float(str(exact[-1][1]["overlap"])) < 1
    whole = bloom[-1][1]
    assert 0 < float(str(whole.pop("false_positive_rate"))) <= RATE and whole.pop("method") == "bloom"
    assert exact[-1][1].pop("false_positive_rate") == 0 and exact[-1][1].pop("method") == "exact"
    assert exact[-1] == bloom[-1]


def test_rate_on_a_million_random_strings(tmp_path: Path) -> None:
    """The paper's check: of 1M random strings none was found. A weaker filter shows that we would see one."""
    draw = np.random.default_rng(0)
    inside, outside = (draw.integers(0, 2**64, (size, 2), dtype=np.uint64) for size in (100_000, 1_000_000))
    for rate, low, high in ((1e-3, 850, 1150), (RATE, 0, 0)):
        bloom = BloomFilter.empty(8, len(inside), rate)
        bloom.put(inside)
        bloom.tally(len(inside), 1, 1)
        assert bloom.holds(inside).all()
        assert low <= bloom.holds(outside).sum() <= high
        assert rate / 1.3 < bloom.header.false_positive_rate < rate * 1.1


def test_hashes_of_other_ngrams_differ() -> None:
    """The 3-grams of a few words, in every order: a hash that forgets places or words would repeat."""
    hashes = NgramHashes(3)
    words = [f"w{number}" for number in range(50)]
    grams = np.stack(np.meshgrid(*[np.arange(50)] * 3), axis=-1).reshape(-1, 3)
    found = hashes.of_grams(words, grams)
    assert len(np.unique(found[:, 0])) == len(np.unique(found[:, 1])) == 125_000
    streamed = hashes.look(hashes.rows([words[number] for number in grams[12_345]]))
    assert (streamed == found[12_345]).all()


def test_words_are_forgotten_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpt2cli.overlap.ngram_hashes as module

    words = [f"w{number % 50}" for number in range(200)]
    whole = WordDigests().of(words)
    monkeypatch.setattr(module, "MOST_WORDS", 7)
    digests = WordDigests()
    assert (np.concatenate([digests.of(words[at : at + 10]) for at in range(0, 200, 10)]) == whole).all()
    assert len(digests) <= 7 + 10 + 1


def test_same_bytes_for_any_number_of_processes_and_a_capacity_that_fits(train: str) -> None:
    data = build(train)
    header = check_bloom(io.BytesIO(data), "x", Silent())
    assert build(train, jobs=3) == data == build(train, capacity=header.n_grams)
    assert header.bits == bits_for(header.n_grams, RATE) and len(data) == HEADER_BYTES + header.bits // 8
    with pytest.raises(UsageFault, match=f"give a capacity of {header.n_grams}"):
        build(train, capacity=header.n_grams // 3)


def test_every_flipped_bit_and_every_cut_is_found(train: str) -> None:
    data = build(train, rate=0.01)
    draw = random.Random(2)
    places = [*range(0, 400), *draw.sample(range(len(data)), 200), HEADER_BYTES - 1, HEADER_BYTES, len(data) - 1]
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 1 << draw.randrange(8)
        with pytest.raises(BadInput):
            check_bloom(io.BytesIO(bytes(broken)), "x", Silent())
    for size in (0, 5, 100, HEADER_BYTES - 1, HEADER_BYTES, len(data) - 1):
        with pytest.raises(BadInput):
            check_bloom(io.BytesIO(data[:size]), "x", Silent())
    with pytest.raises(BadInput, match="goes on"):
        check_bloom(io.BytesIO(data + b"\0"), "x", Silent())
    with pytest.raises(BadInput, match="newer gpt2"):
        check_bloom(io.BytesIO(data.replace(b"bloom/1", b"bloom/2")), "x", Silent())


def sealed(data: bytes, **changes: object) -> bytes:
    """Return a filter whose header says something else, and says so soundly."""
    lines = data[:HEADER_BYTES].split(b"\n")
    fields = {**json.loads(lines[1]), **changes}
    fields.pop("header_sha256")
    text = json.dumps({**fields, "header_sha256": json_sha256(fields)}).encode()
    return (lines[0] + b"\n" + text + b"\n").ljust(HEADER_BYTES - 1) + b"\n" + data[HEADER_BYTES:]


@pytest.mark.parametrize("changes", [
    {"bits": 8 << 60}, {"bits": 0}, {"bits": 12}, {"bits": -8}, {"bits": "8"}, {"bits": True}, {"probes": 0},
    {"probes": 10**9}, {"n": 0}, {"n": 10**6}, {"ones": 1 << 52}, {"promised_rate": 2.0}, {"promised_rate": 1},
    {"unicode": None}, {"extra": 1}, {"n_grams": 1 << 60}, {"bits_sha256": ["x"]}, {"unicode": "\ud800"},
], ids=str)
def test_a_hostile_header_is_refused(train: str, changes: dict[str, object]) -> None:
    data = build(train, rate=0.01)
    assert check_bloom(io.BytesIO(sealed(data)), "x", Silent())
    with pytest.raises(BadInput):
        check_bloom(io.BytesIO(sealed(data, **changes) if changes.get("unicode") != "\ud800"
                               else data.replace(b'"unicode":"', b'"unicode":"\\ud800')), "x", Silent())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.binary(max_size=200), end=st.binary(max_size=60), keep=st.booleans())
def test_only_our_errors_come_out_of_noise(start: bytes, end: bytes, keep: bool) -> None:
    data = (b"gpt2-bloom/1\n" if keep else b"") + start
    with pytest.raises(Gpt2Error):
        check_bloom(io.BytesIO(data.ljust(HEADER_BYTES - 1) + b"\n" + end), "x", Silent())
