"""Bundles against TensorFlow's own bytes, which stand here as TensorFlow 2.21 wrote them; and damage of every kind."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.interchange.crc32c import masked_crc32c
from gpt2cli.interchange.leveldb_table import read_table, varint, write_table
from gpt2cli.interchange.tensor_bundle import BundleReader, data_path, index_path, write_bundle

# tf.compat.v1.train.Saver over 20 variables by `values()`: the index, and the sha256 of the data file.
TENSORFLOW_INDEX = base64.b85decode(
    "000IE0U81b0RR>cZEs{{Y%gdqFJW|aZZBhBVRUqEFJcG*5(E+g2n;ANH87G#u@wOtcL)Iz3=#qe0TKcT1QG%W3?MKlzyURE^apzh1`=#;UokId"
    "2mulV5&{SWAn*Yw5H)Y|vq=dG8*OZGFJoV3V=s3I0TK)n0tf*T0tf^W0tgTwfC4Ch0yWLi3ZVxN5-~4fbaZYnV_#u(bZ#$V2mulV5&{SeAb<oY"
    "Fg1F=KVB698+Ql+5)2Xo2mulT2m}%W2n-;w1Sr4(H9C7bRtW|YY;IpMFJ}k=5(E+g2m~PT1t<_TSv+Cm2?`r+Y;Z4QUuI)3cL)Iz3=#qe0TKcT"
    "1QG%W5FmgCD1ZVruG!oi2oDl4FJW|aZZBhBVRUqEFJcG*5(E+g2n-;A2q-W$mhh+476BV~2muld5&{ST5&{SW5&{SeAg~B1zyURUt_wd31`=#;"
    "UokId2mulV5&{SWAn*w&5H*?T>(mMg8*OZGFJoV3V=s3I0TK)n0tf*T0tf^W0tgTwfC?yp0yPrBQ_lwv5;8AgbaZYnV_#u(bZ#$V2mulV5&{Se"
    "Ab<=gFg5WS`I8j^8+Ql+5)2Xo2mulT2m}%W2n-;w3@E?>HSFrYcnJm)Y;IpMFJ}k=5(E+g2m~PT4JZ&b{yp;9023Q+Z)9a`FK99^ZESEaV_#-t"
    "FLww55)2Xo2mulT2m}%W2oNBE4k&;EH4V{x-v$N}Y;Ip>FJcG*5(E+g2m~O25GW8e@u(<N3jq>m2mulV5&{SWAdnC!5H%Jv#0dri7k6-F2mulZ"
    "5&{Sa5&{SWAfON^fB`k}DxoI_0vB{;2mulZ5&{Sc5&{SWAfOQ_paC@n^JJ3%0002|0RR9300000%I=(<000000RR910KoF0umAxAZUCbN00000"
    "0RR9108wvLqo@T4wFM6V000000000000000000000000000000000000000009X5fizIbN+W")
TENSORFLOW_DATA_SHA256 = "1e891d73b85351a79643c8dcf5bff262baa19d0c425ce205140fc22842fa058a"
# Another of half [0, 1, 2], bf [1.5, -2, 0.25] (bfloat16), dbl [0.1, 0.2] and global_step 7 (int64).
TYPES_INDEX = base64.b85decode(
    "000IE0U81b0RRFIVrB>q5(E+g2m>evH76RX761bgWMXUx0ulrg0tf;i1}G3U6Ahnr01FLgY;R&=Y+rM9WpD@y5&$3;C<ryX*Pjsp1QBRqY-R`("
    "5(E+g2m>G<C<Zl1EpeRy0000100000A{`uW000000RR910KoF0umAx9X#j5k0000100000ygf27bO?a~4gdfE0000000000000000000000000"
    "000000000000000SNnjABy~sI")
TYPES_DATA = base64.b85decode("z&`-MfIga;nVFfHxj&kjnVFfH$v+1G000000000006YLd")


def values() -> dict[str, np.ndarray]:
    sizes: list[tuple[str, tuple[int, ...]]] = [
        ("model/wte", (10, 4)), ("model/wpe", (8, 4)), ("model/ln_f/g", (4,)), ("model/ln_f/b", (4,))]
    for layer in (0, 1, 2, 10):
        sizes += [(f"model/h{layer}/attn/c_attn/w", (1, 4, 12)), (f"model/h{layer}/attn/c_attn/b", (12,)),
                  (f"model/h{layer}/ln_1/g", (4,)), (f"model/h{layer}/mlp/c_fc/w", (1, 4, 16))]
    return {name: (np.arange(np.prod(size)).reshape(size) * 0.25 - number).astype("<f4")
            for number, (name, size) in enumerate(sizes)}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "model.ckpt", values())
    return tmp_path / "model.ckpt"


def test_written_bytes_are_tensorflows(prefix: Path) -> None:
    assert index_path(prefix).read_bytes() == TENSORFLOW_INDEX
    assert hashlib.sha256(data_path(prefix).read_bytes()).hexdigest() == TENSORFLOW_DATA_SHA256


def test_there_and_back(prefix: Path) -> None:
    reader = BundleReader(prefix)
    assert reader.entries.keys() == values().keys()
    for name, array in values().items():
        assert np.array_equal(reader.read(name), array)


def test_other_types_that_tensorflow_wrote(tmp_path: Path) -> None:
    prefix = tmp_path / "types.ckpt"
    index_path(prefix).write_bytes(TYPES_INDEX)
    data_path(prefix).write_bytes(TYPES_DATA)
    reader = BundleReader(prefix)
    assert reader.read("half").tolist() == [0, 1, 2] and reader.read("half").dtype == np.float16
    assert reader.read("dbl").tolist() == [0.1, 0.2]
    assert (reader.read("bf").astype(np.uint32) << 16).view(np.float32).tolist() == [1.5, -2, 0.25]
    with pytest.raises(BadInput, match=r"global_step.*type 9, no floating-point one"):
        reader.read("global_step")


def rewritten(prefix: Path, change: dict[bytes, bytes]) -> Path:
    """Change entries of an index; its own checksums hold again."""
    path = index_path(prefix)
    path.write_bytes(write_table(sorted((dict(read_table(path.read_bytes(), "t")) | change).items())))
    return prefix


def entry(dtype: int = 1, sizes: tuple[int, ...] = (4,), offset: int = 0, size: int = 16, more: bytes = b"") -> bytes:
    shape = b"".join(b"\x12" + varint(len(varint(n)) + 1) + b"\x08" + varint(n) for n in sizes)
    return (b"\x08" + varint(dtype) + b"\x12" + varint(len(shape)) + shape + b"\x20" + varint(offset) + b"\x28"
            + varint(size) + b"\x35\0\0\0\0" + more)


@pytest.mark.parametrize(("value", "message"), [
    (entry(), "checksum of 'x' at byte 0"),
    (entry(size=1 << 50, sizes=(1 << 24, 1 << 24)), "cut short"),
    (entry(size=15), "15 bytes, not what its shape"),
    (entry(sizes=(1 << 39,) * 8), "not what its shape"),
    (entry(sizes=(1,) * 9), "no possible shape"),
    (entry(sizes=(1 << 41,)), "no possible shape"),
    (entry(dtype=7), "type 7, no floating-point one"),
    (entry(more=b"\x3a\0"), "saved in slices"),
    (entry(more=b"\x18\5"), "lies nowhere"),
    (entry(offset=(1 << 63)), "lies nowhere"),
    (b"\x08", "has no end"),
    (b"\x12\x7fx", "no protocol buffer"),
    (b"\x0b", "no protocol buffer"),
    (b"\x12\x02\x18\x01", "no known shape"),
])
def test_nonsense_in_an_entry(prefix: Path, value: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        BundleReader(rewritten(prefix, {b"x": value})).read("x")


@pytest.mark.parametrize(("header", "message"), [
    (b"\x08\x01\x10\x01", "big-endian"), (b"\x08\0", "counts 0 data files"),
    (b"\x08" + varint(1 << 40), "counts 1099511627776 data files"),
])
def test_nonsense_in_the_header(prefix: Path, header: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        BundleReader(rewritten(prefix, {b"": header}))


def test_tensors_in_several_data_files(tmp_path: Path) -> None:
    """As a Saver with sharded=True leaves them: the header counts the files, each entry names its own."""
    prefix = tmp_path / "m"
    first, second = np.arange(4, dtype="<f4"), np.arange(4, 8, dtype="<f4")
    entries = [(b"", b"\x08\2")]
    for shard, (name, array) in enumerate(((b"a", first), (b"b", second))):
        data_path(prefix, shard, 2).write_bytes(bytes(8) + array.tobytes())
        crc = masked_crc32c(array.tobytes()).to_bytes(4, "little")
        entries.append((name, entry(offset=8).replace(b"\x35\0\0\0\0", b"\x18" + varint(shard) + b"\x35" + crc)))
    index_path(prefix).write_bytes(write_table(entries))
    reader = BundleReader(prefix)
    assert [path.name for path in reader.paths()] == ["m.index", "m.data-00000-of-00002", "m.data-00001-of-00002"]
    assert np.array_equal(reader.read("a"), first) and np.array_equal(reader.read("b"), second)


def test_no_header_and_no_utf8(prefix: Path) -> None:
    index_path(prefix).write_bytes(write_table([(b"a", entry())]))
    with pytest.raises(BadInput, match="no header entry"):
        BundleReader(prefix)
    index_path(prefix).write_bytes(write_table([(b"", b"\x08\1"), (b"\xff\xfe", entry())]))
    with pytest.raises(BadInput, match="not UTF-8"):
        BundleReader(prefix)


def test_an_escape_code_in_a_name_is_shown_as_one(prefix: Path) -> None:
    reader = BundleReader(rewritten(prefix, {b"\x1b[31mx": entry(dtype=7)}))
    with pytest.raises(BadInput) as caught:
        reader.read("\x1b[31mx")
    assert "\x1b" not in str(caught.value) and "\\x1b[31mx" in str(caught.value)


def test_an_index_of_100_mb_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "m.index", "wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(BadInput, match="too large"):
        BundleReader(tmp_path / "m")


def test_every_flipped_byte_of_the_data_is_seen(prefix: Path) -> None:
    data = bytearray(data_path(prefix).read_bytes())
    for place in range(0, len(data), 97):
        data[place] ^= 1
        data_path(prefix).write_bytes(data)
        reader = BundleReader(prefix)
        with pytest.raises(BadInput, match="checksum of"):
            [reader.read(name) for name in reader.entries]
        data[place] ^= 1


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_only_our_errors_escape(noise: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        prefix = Path(directory) / "m"
        index_path(prefix).write_bytes(write_table([(b"", b"\x08\1"), (b"x", noise)]))
        data_path(prefix).write_bytes(bytes(64))
        try:
            BundleReader(prefix).read("x")
        except Gpt2Error as error:
            assert str(prefix) in str(error)
