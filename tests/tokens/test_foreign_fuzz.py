"""Foreign files are hostile: whatever their bytes, a shard or a sentence comes out, and memory stays small."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest
from foreign_files import EOT, documents_of, exported, imported, llmc_file, megatron_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import Gpt2Error
from gpt2cli.reporter import Silent
from gpt2cli.tokens.export_tokens import ExportConfig, export_tokens
from gpt2cli.tokens.import_tokens import ImportConfig, import_tokens

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
IDS = st.lists(st.integers(0, EOT - 1), max_size=40)
DOCUMENTS = st.lists(IDS, max_size=8)
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12)


def edited(data: bytes, edits: list[tuple[float, int]], cut: float) -> bytes:
    """Overwrite bytes at relative places; then keep that share of the whole."""
    changed = bytearray(data)
    for place, value in edits:
        if changed:
            changed[int(place * len(changed))] = value
    return bytes(changed[: max(0, round(cut * len(changed)))])


def assert_survives(form: str, *paths: Path) -> None:
    """Import; only a Gpt2Error may come, else a shard that its own reader takes."""
    stream = io.BytesIO()
    try:
        import_tokens([str(path) for path in paths], stream, ImportConfig(form), Silent())
    except Gpt2Error as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(document, list) for document in documents_of(stream.getvalue()))


@QUICK
@given(documents=DOCUMENTS, edits=EDITS, cut=st.sampled_from([1.0, 1.0, 0.999, 0.5]))
def test_llmc(tmp_path: Path, documents: list, edits: list, cut: float) -> None:
    (tmp_path / "x.bin").write_bytes(edited(llmc_file([id for ids in documents for id in (EOT, *ids)]), edits, cut))
    assert_survives("llm.c", tmp_path / "x.bin")


@QUICK
@given(data=st.binary(max_size=200))
def test_nanogpt(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(data)
    assert_survives("nanogpt", tmp_path / "x.bin")


@QUICK
@given(documents=DOCUMENTS, edits=EDITS, cut=st.sampled_from([1.0, 1.0, 0.99]), which=st.sampled_from(["idx", "bin"]))
def test_megatron(tmp_path: Path, documents: list, edits: list, cut: float, which: str) -> None:
    prefix = megatron_files(tmp_path / "x", [[[*ids, EOT]] for ids in documents])
    path = tmp_path / f"x.{which}"
    path.write_bytes(edited(path.read_bytes(), edits, cut))
    assert_survives("megatron", prefix)


@QUICK
@given(documents=DOCUMENTS, edits=EDITS, cut=st.sampled_from([1.0, 1.0, 1.0, 0.9]))
def test_parquet(tmp_path: Path, documents: list, edits: list, cut: float) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "out" / "train-00000-of-00001.parquet"
    if not path.exists():
        exported(tmp_path, "parquet", documents)
        (tmp_path / "sound").write_bytes(path.read_bytes())
    path.write_bytes(edited((tmp_path / "sound").read_bytes(), edits, cut))
    assert_survives("parquet", path)


@settings(QUICK, max_examples=24)
@given(documents=DOCUMENTS, form=st.sampled_from(["llm.c", "nanogpt", "megatron", "parquet"]))
def test_a_shard_comes_back_byte_for_byte(tmp_path: Path, documents: list, form: str) -> None:
    """Its digest of the text too, since that is of the text that the tokens stand for."""
    names = {"llm.c": "train_000000.bin", "nanogpt": "train.bin", "megatron": "train.idx",
             "parquet": "train-00000-of-00001.parquet"}
    shard, again = tmp_path / "x.tok.zst", io.BytesIO()
    (tmp_path / "x.bin").write_bytes(llmc_file([token for ids in documents for token in (EOT, *ids)]))
    with open(shard, "wb") as stream:
        import_tokens([str(tmp_path / "x.bin")], stream, ImportConfig("llm.c", source="web"), Silent())
    export_tokens([str(shard)], str(tmp_path / form), ExportConfig(form, force=True), Silent())
    import_tokens([str(tmp_path / form / names[form])], again, ImportConfig(form, source="web"), Silent())
    assert documents_of(again.getvalue()) == documents
    assert again.getvalue() == shard.read_bytes()


def test_a_file_that_promises_much_takes_no_memory(tmp_path: Path) -> None:
    """2^31 - 1 tokens in the header, sparse files of 8 GiB: refused before anything of that size is allocated."""
    (tmp_path / "a.bin").write_bytes(llmc_file([EOT], 20240801, 7, "I", count=2**31 - 1))
    with open(tmp_path / "b.bin", "wb") as file:
        file.write(llmc_file([EOT, 60_000]))
        file.truncate(8 << 30)
    prefix = megatron_files(tmp_path / "c", [[[1, EOT]]])
    with open(tmp_path / "c.idx", "r+b") as file:
        file.truncate(8 << 30)
    for form, path in (("llm.c", tmp_path / "a.bin"), ("nanogpt", tmp_path / "b.bin"), ("llm.c", tmp_path / "b.bin"),
                       ("megatron", prefix)):
        with pytest.raises(Gpt2Error):
            imported(form, path)
    assert peak_of(tmp_path, "nanogpt", tmp_path / "b.bin") < 16 << 20


def test_a_document_is_never_held_whole(tmp_path: Path) -> None:
    """Eight million tokens without end-of-text, 16 MiB: the peak is that of a few frames."""
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(16 << 20))
    assert peak_of(tmp_path, "nanogpt", path) < 8 << 20


def peak_of(directory: Path, form: str, path: Path) -> int:
    """Return the bytes that Python allocates at most while it imports, the vocabulary loaded before."""
    (directory / "empty.bin").write_bytes(b"")
    imported("nanogpt", directory / "empty.bin")
    with open(directory / "out.tok.zst", "wb") as stream:
        tracemalloc.start()
        try:
            import_tokens([str(path)], stream, ImportConfig(form), Silent())
        except Gpt2Error:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak
