"""Files of settings: what is wrong with one is a sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.records.toml_file import MAX_BYTES, read_toml


def test_tables(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'[a]\r\nb = 1_000\nc = "\xc3\xbc"\n')
    assert read_toml(tmp_path / "x.toml") == {"a": {"b": 1000, "c": "\u00fc"}}


@pytest.mark.parametrize(("data", "words"), [
    (b"a = ", "is not TOML: Invalid value"), (b"a = 1\na = 2", "is not TOML: Cannot overwrite"),
    (b"a = '\xff'", "not UTF-8 at byte 5"), (b"a = " + b"[" * 60_000, "nested too deeply"),
    (b"a = " + b"9" * 5_000, "a number or a date that cannot be"), (b"a = 2017-99-99", "a number or a date|not TOML"),
    (b"#" * (MAX_BYTES + 1), "larger than 65,536 bytes"),
])
def test_what_is_wrong(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(UsageFault, match=words) as error:
        read_toml(path)
    assert str(error.value).startswith(str(path)) and len(str(error.value)) < len(str(path)) + 250


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"^there is no .*x.toml$"):
        read_toml(tmp_path / "x.toml")
    with pytest.raises(UsageFault, match="is a directory; name a TOML file"):
        read_toml(tmp_path)
