"""Damage anywhere in a shard set is found before its tokens are used, by every reader; what passes is harmless.

Harmless means: the same tokens, vocabulary, end-of-text, splits and counts. Of the bits of a compressed frame a few
are looked at by no decoder, and JSON has some freedom (a last newline); nothing else may pass.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.records import shard_format as form
from gpt2cli.records.shard import ShardFile, ShardHeader, ShardReader, ShardWriter
from gpt2cli.records.shard_set import INDEX_NAME, SPLITS, load_shard_set, seal
from gpt2cli.records.verify import Reading
from gpt2cli.records.verify_shards import verify_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

N_FLIPS, N_CUTS = 1000, 200
Content = tuple[object, ...]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with train files of two frames and of one, and a val file."""
    place = tmp_path_factory.mktemp("damage")
    draw = np.random.default_rng(3)
    with open(place / "x.tok.zst", "wb") as stream:
        writer = ShardWriter(stream, ShardHeader(50257, 50256, gpt2_vocabulary().sha256))
        for _ in range(350):
            writer.write_document(draw.zipf(1.6, draw.integers(100, 900)) % 50_000, 2000)
        writer.close("f" * 64)
    pack_shards([str(place / "x.tok.zst")], str(place / "set"),
                PackConfig(val_fraction=0.1, shard_tokens=140_000), Silent())
    return place / "set"


@pytest.fixture
def damaged(original: Path, tmp_path: Path) -> Path:
    """A copy of the set to damage."""
    return Path(shutil.copytree(original, tmp_path / "set"))


def front_to_back(path: Path) -> Content:
    with open(path, "rb") as stream:
        reader = ShardReader(stream, str(path))
        tokens = np.concatenate(list(reader.frames()))
    return reader.header, tokens.tobytes(), [footer.lengths().tolist() for footer in reader.footers]


def at_random(path: Path) -> Content:
    with ShardFile(path) as shard:
        return shard.header, shard.read(0, shard.n_tokens).tobytes(), [shard.footer.lengths().tolist()]


def as_set(directory: Path) -> Content:
    shards = load_shard_set(directory)
    contents: list[object] = []
    for split in SPLITS:
        with shards.open(split) as stream:
            contents.append(stream.read(0, len(stream)).tobytes())
    return contents, shards.index


def at_the_start_of_train(directory: Path) -> Content:
    shards = load_shard_set(directory)
    shards.check_structure()
    return (shards.index,)


def packed_again(path: Path) -> Content:
    target = path.parent.parent / "again"
    summary = pack_shards([str(path)], str(target), PackConfig(val_fraction=0.2, force=True), Silent())
    return (summary.data_sha256,)


def verdict(directory: Path) -> list[str]:
    return verify_shard_set(directory, Reading(Silent(), "set")).problems


def outcome(read: Callable[[Path], Content], path: Path, expected: Content) -> bool:
    """Whether the damage is detected; if it isn't, what is read must be what was written."""
    try:
        found = read(path)
    except Gpt2Error as error:
        assert "\n" not in str(error) and path.name in str(error)
        return True
    assert found == expected, path
    return False


def places(directory: Path) -> Iterator[tuple[Path, int]]:
    """Every byte of the set: the file and its place in it."""
    for path in sorted(directory.iterdir()):
        for at in range(path.stat().st_size):
            yield path, at


class Tally:
    """Tries all readers on a damaged file, puts it right again, and counts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._whole = {path: path.read_bytes() for path in directory.iterdir()}
        self._set, self._start = as_set(directory), at_the_start_of_train(directory)
        self._alone = {path: (front_to_back(path), packed_again(path)) for path in self._whole
                       if path.name != INDEX_NAME}
        self.detected, self.harmless = 0, 0
        assert verdict(directory) == []

    def try_on(self, path: Path, data: bytes, *, pack: bool = False) -> None:
        """Replace a file by `data`, and hold every reader to detecting it or to reading what was written."""
        path.write_bytes(data)
        try:
            found = [outcome(as_set, self._directory, self._set)]
            outcome(at_the_start_of_train, self._directory, self._start)
            if path.name != INDEX_NAME:
                found += [outcome(front_to_back, path, self._alone[path][0]),
                          outcome(at_random, path, self._alone[path][0])]
                if pack:
                    found.append(outcome(packed_again, path, self._alone[path][1]))
            # The index has the digest of each file's bytes: nothing passes verify but another spelling of the index.
            assert verdict(self._directory) or (path.name == INDEX_NAME and not any(found))
        finally:
            path.write_bytes(self._whole[path])
        if any(found):
            self.detected += 1
        else:
            self.harmless += 1


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.mark.slow
def test_a_thousand_flipped_bits(damaged: Path) -> None:
    tally, draw = Tally(damaged), random.Random(11)
    for number, (path, at) in enumerate(draw.sample(list(places(damaged)), N_FLIPS)):
        tally.try_on(path, flipped(path.read_bytes(), at, draw.randrange(8)), pack=number % 10 == 0)
    print(f"{N_FLIPS} flips: {tally.detected} detected, {tally.harmless} harmless")
    assert tally.detected + tally.harmless == N_FLIPS
    assert tally.harmless <= 10


def test_flipped_bits_outside_the_frames(damaged: Path) -> None:
    """Header, footer, seek table and index are a small part of a set: they get flips of their own."""
    tally, draw = Tally(damaged), random.Random(12)
    chosen = []
    for path in sorted(damaged.iterdir()):
        spots = range(path.stat().st_size)
        if path.name != INDEX_NAME:
            with ShardFile(path) as shard:
                first, last = shard.frames[0], shard.frames[-1]
            spots = [*range(first.offset), *range(last.offset + last.size, path.stat().st_size)]
        chosen += [(path, at) for at in draw.sample(list(spots), 60)]
    for path, at in chosen:
        tally.try_on(path, flipped(path.read_bytes(), at, draw.randrange(8)))
    assert tally.harmless <= 1


def test_two_hundred_cuts(damaged: Path) -> None:
    tally, draw = Tally(damaged), random.Random(13)
    for number, (path, at) in enumerate(draw.sample(list(places(damaged)), N_CUTS)):
        tally.try_on(path, path.read_bytes()[:at], pack=number % 10 == 0)
    assert tally.harmless == 0


def test_cuts_at_every_frame_and_of_all(damaged: Path) -> None:
    """zstd finds nothing wrong with a file that ends with a frame; an empty file is one of them."""
    tally = Tally(damaged)
    count = 0
    for path in sorted(damaged.glob("*.zst")):
        data = path.read_bytes()
        with ShardFile(path) as shard:
            ends = [0, *(frame.offset for frame in shard.frames), shard.frames[-1].offset + shard.frames[-1].size]
        ends.append(data.rindex(form.SEEK_MAGIC.to_bytes(4, "little")))
        for end in ends:
            tally.try_on(path, data[:end], pack=True)
            count += 1
    assert (tally.detected, tally.harmless) == (count, 0)


def test_garbage_at_the_end(damaged: Path) -> None:
    tally = Tally(damaged)
    path = damaged / "train-00000.tok.zst"
    data = path.read_bytes()
    for extra in (b"\0", b"garbage after the end", bytes(4096), data[:500], form.skippable(0x184D2A5A, b"more"),
                  form.compress_frame(b"\1\0"), data[-100:]):
        tally.try_on(path, data + extra, pack=True)
    assert tally.harmless == 0


def frames_of(path: Path) -> tuple[list[bytes], bytes, bytes]:
    """The data frames, what is before them, and the footer."""
    data = path.read_bytes()
    with ShardFile(path) as shard:
        frames = [data[frame.offset : frame.offset + frame.size] for frame in shard.frames]
        start, end = shard.frames[0].offset, shard.frames[-1].offset + shard.frames[-1].size
    return frames, data[:start], data[end : data.rindex(form.SEEK_MAGIC.to_bytes(4, "little"))]


def assembled(frames: list[bytes], header: bytes, footer: bytes) -> bytes:
    """A file with a seek table that is right for its frames."""
    entries = [[len(header), 0, form.NO_CONTENT]]
    entries += [[len(frame), form.content_size(frame, 2, "x"), form.frame_checksum(frame)] for frame in frames]
    entries.append([len(footer), 0, form.NO_CONTENT])
    return header + b"".join(frames) + footer + form.pack_seek_table(entries)


def test_swapped_doubled_and_missing_frames_with_a_seek_table_to_match(tmp_path: Path) -> None:
    """Two frames of one size, so that no length gives the exchange away."""
    path = tmp_path / "x.tok.zst"
    with open(path, "wb") as stream:
        writer = ShardWriter(stream, ShardHeader(50257, 50256, "0" * 64))
        for value in (1, 2, 3):
            writer.write_document(np.full(form.FRAME_TOKENS - 1, value))
        writer.close(None)
    (a, b, c), header, footer = frames_of(path)
    assert len(a) == len(b) == len(c)
    assert assembled([a, b, c], header, footer) == path.read_bytes()
    for frames in ([b, a, c], [a, c, b], [a, a, c], [a, b], [b, c], [a, b, c, c], [a, b, b, c], []):
        path.write_bytes(assembled(frames, header, footer))
        for read in (front_to_back, at_random):
            with pytest.raises(BadInput):
                read(path)
        for joined in (front_to_back, at_random):
            path.write_bytes(assembled(frames, header, footer) * 2)
            with pytest.raises(BadInput):
                joined(path)


def test_exchanged_files_of_one_size(damaged: Path, original: Path, tmp_path: Path) -> None:
    """Sound files in each other's place, or from another set: sizes, counts and their own digests are all right."""
    index = json.loads((original / INDEX_NAME).read_text())
    draw = np.random.default_rng(4)
    lengths = [300, 200]
    for number in range(2):
        with open(damaged / f"train-0000{number}.tok.zst", "wb") as stream:
            writer = ShardWriter(stream, ShardHeader(50257, 50256, index["tokenizer_sha256"]))
            for length in lengths:
                writer.write_document(draw.permutation(np.arange(length)), 2 * length)
            footer = writer.close(None)
        data = (damaged / f"train-0000{number}.tok.zst").read_bytes()
        index["files"][number] |= {"tokens": footer.tokens, "documents": 2, "text_bytes": footer.text_bytes,
                                   "bytes": len(data), "tokens_sha256": footer.sha256}
    first, second = (damaged / f"train-0000{number}.tok.zst" for number in range(2))
    (damaged / INDEX_NAME).write_text(json.dumps(sealed_totals(index)))
    if first.stat().st_size != second.stat().st_size:
        pytest.fail("the two files should have one size")
    load_shard_set(damaged).check_structure()
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    for read in (as_set, at_the_start_of_train):
        with pytest.raises(BadInput, match=r"train-00000\.tok\.zst is not the file that index\.json lists"):
            read(damaged)
    assert any("is not the file that index.json lists" in text for text in verdict(damaged))


def sealed_totals(index: dict[str, Any]) -> dict[str, Any]:
    train = [entry for entry in index["files"] if entry["split"] == "train"]
    for name in ("tokens", "documents", "text_bytes"):
        index["splits"]["train"][name] = sum(entry[name] for entry in train)
    return seal(index)


@pytest.mark.parametrize("name", ["n_vocab", "eot", "dtype", "tokenizer_sha256", "data_sha256", "pack", "inputs",
                                  "versions", "splits", "files"])
def test_an_index_edited_by_hand_is_refused(damaged: Path, name: str) -> None:
    """Also in fields that no sum or digest of the files bears out."""
    index = json.loads((damaged / INDEX_NAME).read_text())
    value = index[name]
    if isinstance(value, int):
        index[name] = value - 1
    elif isinstance(value, str):
        index[name] = value[::-1]
    elif isinstance(value, list):
        index[name] = [*value, value[0]]
    else:
        value["method" if name == "pack" else next(iter(value))] = "other"
    (damaged / INDEX_NAME).write_text(json.dumps(index))
    for read in (as_set, at_the_start_of_train):
        with pytest.raises(BadInput, match="changed by hand"):
            read(damaged)
    assert "changed by hand" in verdict(damaged)[0]


def test_an_index_in_another_layout_is_the_same_index(damaged: Path) -> None:
    index = json.loads((damaged / INDEX_NAME).read_text())
    (damaged / INDEX_NAME).write_text(json.dumps(dict(reversed(index.items())), separators=(",", ":")))
    assert verdict(damaged) == []


def test_an_index_sealed_around_lies_is_borne_out_by_no_file(damaged: Path) -> None:
    """Who seals an edited index anew is still held to the files."""
    index = json.loads((damaged / INDEX_NAME).read_text())
    for edit in ({"n_vocab": 50256}, {"eot": 0}):
        (damaged / INDEX_NAME).write_text(json.dumps(seal(index | edit)))
        for read in (as_set, at_the_start_of_train):
            with pytest.raises(BadInput, match="is not the file that"):
                read(damaged)


def test_a_cut_in_the_second_of_two_joined_shards(original: Path, tmp_path: Path) -> None:
    """At the seam itself there is nothing to find: one whole shard is left."""
    part = min(original.glob("*.zst"), key=lambda file: file.stat().st_size).read_bytes()
    path = tmp_path / "x.tok.zst"
    draw = random.Random(14)
    for size in (1, 3, 4, 7, 8, len(part) - 1, *(draw.randrange(1, len(part)) for _ in range(40))):
        path.write_bytes(part + part[:size])
        for read in (front_to_back, at_random):
            with pytest.raises(BadInput):
                read(path)
    path.write_bytes(part)
    front_to_back(path)
