"""dedup in stages on many machines gives the bytes of one run; files that don't belong together are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import gpt2_here
from near_documents import corpus, lines

from gpt2cli.errors import Gpt2Error
from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES
from gpt2cli.webtext.signature_file import open_signatures

__all__ = ["gpt2_here"]
Here = Callable[..., Any]


def dedup(gpt2_here: Here, *arguments: object, check: bool = True, **more: Any) -> Any:
    return gpt2_here("webtext-scrape", "dedup", "-q", *arguments, check=check, **more)


def staged(gpt2_here: Here, directory: Path, parts: list[bytes], shares: int, *options: object) -> tuple[bytes, bytes]:
    """Return (survivors, rejects) of all parts, made stage by stage in `directory`."""
    directory.mkdir()
    signatures = [directory / f"{number}.signatures" for number in range(len(parts))]
    for path, part in zip(signatures, parts, strict=True):
        dedup(gpt2_here, "--stage", "signatures", "-o", path, *options, input=part)
    matches: list[object] = []
    for share in range(1, shares + 1):
        path = directory / f"{share}.matches"
        dedup(gpt2_here, "--stage", "matches", "--shard", f"{share}/{shares}", *signatures, "-o", path)
        matches += ["--matches", path]
    dedup(gpt2_here, "--stage", "duplicates", *signatures, *matches, "-o", directory / "duplicates.jsonl")
    kept, rejects = [], []
    for number, part in enumerate(parts, 1):
        dedup(gpt2_here, "--stage", "survivors", "--duplicates", directory / "duplicates.jsonl", "--part", number,
              "-o", directory / "kept", "--rejects", directory / "rejects", "-f", input=part)
        kept.append((directory / "kept").read_bytes())
        rejects.append((directory / "rejects").read_bytes())
    return b"".join(kept), b"".join(rejects)


@pytest.mark.parametrize(("cuts", "shares"), [((), 0), ((), 3), ((70,), 1), ((1, 1, 60, 110), 2)])
def test_any_division_gives_the_bytes_of_one_run(cuts: tuple[int, ...], shares: int, gpt2_here: Here, tmp_path: Path
                                                 ) -> None:
    data = lines(corpus(150)).splitlines(keepends=True)
    parts = [b"".join(data[start:stop]) for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True)]
    dedup(gpt2_here, "-o", tmp_path / "kept", "--rejects", tmp_path / "rejects", input=b"".join(data))
    one_run = (tmp_path / "kept").read_bytes(), (tmp_path / "rejects").read_bytes()
    assert one_run[0] and one_run[1]
    assert staged(gpt2_here, tmp_path / "stages", parts, shares) == one_run


def test_other_profiles(gpt2_here: Here, tmp_path: Path) -> None:
    data = lines(corpus(100))
    for name in ("fineweb", "exact"):
        dedup(gpt2_here, "--profile", name, "-o", tmp_path / name, "--rejects", tmp_path / "rejects", "-f", input=data)
        assert staged(gpt2_here, tmp_path / f"{name}-stages", [data], 2, "--profile", name) == (
            (tmp_path / name).read_bytes(), (tmp_path / "rejects").read_bytes())


@pytest.fixture
def pieces(gpt2_here: Here, tmp_path: Path) -> Path:
    """Signatures a, b, of another profile p; matches 1 and 2 of 2 for a and b; duplicates d."""
    for name, seed, profile in (("a", 1, "openwebtext"), ("b", 2, "openwebtext"), ("p", 1, "fineweb")):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(corpus(40, seed)))
        dedup(gpt2_here, "--stage", "signatures", "--profile", profile, tmp_path / f"{name}.jsonl", "-o",
              tmp_path / name)
    for share in (1, 2):
        dedup(gpt2_here, "--stage", "matches", "--shard", f"{share}/2", tmp_path / "a", tmp_path / "b", "-o",
              tmp_path / str(share))
    dedup(gpt2_here, "--stage", "duplicates", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "d")
    return tmp_path


@pytest.mark.parametrize(("arguments", "status", "says"), [
    (["--stage", "duplicates", "a", "b", "--matches", "1"], 2, "shares are missing, there are 1 of 2"),
    (["--stage", "duplicates", "b", "a", "--matches", "1", "--matches", "2"], 2, "in another order"),
    (["--stage", "duplicates", "a", "b", "--matches", "d"], 65, "holds no gpt2.matches record"),
    (["--stage", "matches", "a", "p"], 2, "another profile"),
    (["--stage", "matches", "a.jsonl"], 65, "no signature file"),
    (["--stage", "matches", "nowhere"], 2, "there is no"),
    (["--stage", "matches", "."], 2, "is a directory"),
    (["--stage", "matches", "-"], 2, "don't pipe them in"),
    (["--stage", "matches"], 2, "takes signature files"),
    (["--stage", "survivors", "a.jsonl"], 2, "needs --duplicates"),
    (["--stage", "survivors", "a.jsonl", "b.jsonl", "--duplicates", "d"], 2, "takes one FILE"),
    (["--stage", "survivors", "b.jsonl", "--duplicates", "d"], 65, "is not what the signatures were made of"),
    (["--stage", "survivors", "a.jsonl", "--duplicates", "d", "--part", "3"], 2, "knows 2 inputs"),
    (["--stage", "survivors", "-", "--duplicates", "-"], 2, "can't both be"),
    (["--stage", "matches", "a", "--jobs", "2"], 2, "--jobs is for a run without --stage or --stage signatures"),
    (["a.jsonl", "--part", "1"], 2, "--part is for --stage survivors"),
])
def test_what_does_not_fit_is_refused(arguments: list[str], status: int, says: str, pieces: Path, gpt2_here: Here,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pieces)
    done = dedup(gpt2_here, *arguments, check=False)
    assert (done.returncode, says in done.stderr.decode()) == (status, True), done.stderr.decode()


@pytest.mark.parametrize("record", [
    {"schema": "gpt2.match/1", "ranks": [1, 10**9]}, {"schema": "gpt2.match/1", "ranks": "ab"},
    {"schema": "gpt2.match/1", "ranks": [True, 1]}, {"schema": "gpt2.match/1"}, {"schema": "gpt2.matches/2"}])
def test_matches_that_make_no_sense(record: dict[str, Any], pieces: Path, gpt2_here: Here) -> None:
    with open(pieces / "1", "ab") as file:
        file.write(json.dumps(record).encode() + b"\n")
    done = dedup(gpt2_here, "--stage", "duplicates", pieces / "a", pieces / "b", "--matches", pieces / "1", "--matches",
                 pieces / "2", check=False)
    assert done.returncode == 65, done.stderr.decode()


@pytest.mark.parametrize("field", ["line", "survivor", "similarity", "reason"])
def test_duplicates_that_make_no_sense(field: str, pieces: Path, gpt2_here: Here) -> None:
    records = [json.loads(line) for line in (pieces / "d").read_bytes().splitlines()]
    records[1][field] = []
    (pieces / "d").write_bytes(lines(records))
    done = dedup(gpt2_here, "--stage", "survivors", "--duplicates", pieces / "d", pieces / "a.jsonl", check=False)
    assert done.returncode == 65 and b"makes no sense" in done.stderr


@pytest.fixture(scope="module")
def signature_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from gpt2cli.reporter import Silent
    from gpt2cli.webtext.dedup import DedupConfig
    from gpt2cli.webtext.dedup_stages import sign_input

    directory = tmp_path_factory.mktemp("signatures")
    (directory / "docs.jsonl").write_bytes(lines(corpus(20)))
    config = DedupConfig(DEDUP_PROFILES["fineweb"])
    sign_input(directory / "docs.jsonl", str(directory / "out"), False, config, Silent())
    return (directory / "out").read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_escapes_as_a_traceback_or_unseen(data: st.DataObject, signature_bytes: bytes,
                                                    tmp_path_factory: pytest.TempPathFactory) -> None:
    place = data.draw(st.one_of(st.integers(0, 200), st.integers(0, len(signature_bytes) - 1)))
    kind = data.draw(st.sampled_from(["cut", "change", "insert", "head"]))
    if kind == "cut":
        damaged = signature_bytes[:place]
    elif kind == "change":
        damaged = signature_bytes[:place] + bytes([signature_bytes[place] ^ data.draw(st.integers(1, 255))]) \
            + signature_bytes[place + 1 :]
    elif kind == "insert":
        damaged = signature_bytes[:place] + data.draw(st.binary(min_size=1, max_size=9)) + signature_bytes[place:]
    else:  # a head that lies, under a hash that is right
        head, _, rest = signature_bytes.partition(b"\n")
        fields = json.loads(head)
        fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(
            st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3))
        body = json.dumps(fields, separators=(",", ":")).encode() + b"\n" + rest[:-16]
        damaged = body + hashlib.blake2b(body, digest_size=16).digest()
        if damaged == signature_bytes:
            return
    path = tmp_path_factory.getbasetemp() / "damaged.signatures"
    path.write_bytes(damaged)
    try:
        file = open_signatures(path)
        for _ in file.blocks(7):
            pass
    except Gpt2Error:
        return
    assert kind == "head"
