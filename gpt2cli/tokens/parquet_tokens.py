"""Parquet as Hugging Face's `datasets` reads and writes it: a document a row, as ids (`input_ids`) or as text.

Export writes `input_ids`, list<int32>, end-of-text included, so that rows joined are the tokens of the shard. Files are
named SPLIT-00000-of-00002.parquet, which `datasets.load_dataset(DIR)` takes for splits. pyarrow is the extra `parquet`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.records.shard import ShardHeader
from gpt2cli.records.streams import open_raw_input
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.eot_documents import ForeignTally, Part, documents_of_entry
from gpt2cli.tokens.vocabulary import Vocabulary

COLUMNS = ("input_ids", "tokens", "text")
"""Columns looked for, in this order, where none is named."""
SPLIT_NAMES = {"val": "validation"}
"""What `datasets` calls a split of ours."""
TOKENIZER_KEY = b"gpt2.tokenizer_sha256"
MAX_ROW = 1 << 28
"""Longest document exported, in tokens: a row is held in memory."""
_ROWS = 256
_GROUP_TOKENS = 1 << 20


def read_parquet(paths: Sequence[str], vocabulary: Vocabulary, tally: ForeignTally, column: str | None = None
                 ) -> Iterator[Part]:
    """Yield the documents of parquet files. Text is encoded in `vocabulary`.

    Rows that are null, or texts that are empty, are skipped and counted. Raises UsageFault where there is no such
    column or it holds neither ids nor text, BadInput for damage, an id outside the vocabulary, or another tokenizer.
    """
    arrow = _arrow()
    encoder: Encoder | None = None
    for path in paths:
        if path == "-":
            raise UsageFault("parquet is read from its end, so it can't come from standard input; name a file")
        with open_raw_input(path) as raw, _reporting(path):
            file = arrow.parquet.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20)
            _check_tokenizer(file, vocabulary, path)
            name = _column(file, column, path)
            row = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=[name], use_threads=False):
                values = batch.column(0)
                if _is_list(arrow, values.type):
                    yield from _id_rows(arrow, values, vocabulary, tally, f"{path}: {name} of row", row)
                else:
                    encoder = encoder or Encoder(vocabulary)
                    yield from _text_rows(arrow, values, encoder, tally)
                row += len(values)


def _id_rows(arrow: Any, rows: Any, vocabulary: Vocabulary, tally: ForeignTally, where: str, first: int
             ) -> Iterator[Part]:
    for number, entry in enumerate(rows, first):
        if not entry.is_valid:
            tally.skip("rows without ids")
            continue
        if entry.values.null_count:
            raise BadInput(f"{where} {number} has a null among its ids")
        ids = entry.values.to_numpy(zero_copy_only=False)
        if len(ids) and (int(ids.max()) >= vocabulary.n_vocab or int(ids.min()) < 0):
            raise BadInput(f"{where} {number} has an id outside the vocabulary of {vocabulary.n_vocab:,}; name the "
                           "right one with --vocab")
        yield from documents_of_entry([ids], vocabulary.eot, tally)


def _text_rows(arrow: Any, rows: Any, encoder: Encoder, tally: ForeignTally) -> Iterator[Part]:
    for data in rows.cast(arrow.large_binary()).to_pylist():
        if not data:
            tally.skip("rows without text" if data is None else "rows with empty text")
            continue
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")
            tally.invalid_bytes += text.count("\ufffd") - data.count("\ufffd".encode())
        yield encoder.encode(text), True


def _column(file: Any, wanted: str | None, path: str) -> str:
    arrow = _arrow()
    types = {field.name: field.type for field in file.schema_arrow}
    found = [name for name in ((wanted,) if wanted else COLUMNS) if name in types]
    if not found:
        raise UsageFault(f"{path} has no column {wanted or ', '.join(COLUMNS)}; it has {', '.join(types) or 'none'}: "
                         "name one with --column")
    kind = types[found[0]]
    if not (arrow.types.is_integer(kind.value_type) if _is_list(arrow, kind)
            else arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
        raise UsageFault(f"{path}: column {found[0]} is {kind}, neither text nor lists of integers; name another with "
                         "--column")
    return found[0]


def _is_list(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind))


def _check_tokenizer(file: Any, vocabulary: Vocabulary, path: str) -> None:
    named = (file.schema_arrow.metadata or {}).get(TOKENIZER_KEY)
    if named is not None and named.decode("ascii", "replace") != vocabulary.sha256:
        raise BadInput(f"{path} was exported in another vocabulary ({named[:12].decode('ascii', 'replace')}...) than "
                       f"this ({vocabulary.sha256[:12]}...); name it with --vocab")


@contextlib.contextmanager
def _reporting(path: str) -> Iterator[None]:
    """Turn what pyarrow raises for damaged files into BadInput."""
    arrow = _arrow()
    try:
        yield
    except Gpt2Error:
        raise
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or path
            raise
        raise BadInput(f"{path} is damaged: {_one_line(error)}") from None
    except arrow.ArrowException as error:
        raise BadInput(f"{path} is no parquet file, or is damaged: {_one_line(error)}") from None
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{path} is damaged: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def write_parquet(directory: Path, split: str, header: ShardHeader, frames: Iterable[np.ndarray], shard_tokens: int
                  ) -> list[str]:
    """Write a stream of tokens as SPLIT-00000-of-00001.parquet and so on; return the names.

    A file is closed after the row group that brings it to `shard_tokens` tokens. Raises BadInput for a document of
    2^28 tokens or more.
    """
    arrow = _arrow()
    schema = arrow.schema([arrow.field("input_ids", arrow.list_(arrow.int32()))],
                          metadata={TOKENIZER_KEY: header.tokenizer_sha256.encode(),
                                    b"gpt2.n_vocab": str(header.n_vocab).encode(),
                                    b"gpt2.eot": str(header.eot).encode()})
    split = SPLIT_NAMES.get(split, split)
    parts: list[Path] = []
    writer, held = None, 0
    with contextlib.ExitStack() as stack:  # of the open file: arrow takes no names that are not UTF-8
        for tokens, ends in _row_groups(frames, header.eot, min(shard_tokens, _GROUP_TOKENS)):
            if writer is None:
                parts.append(directory / f"{split}-{len(parts):05d}.part")
                file = stack.enter_context(open(parts[-1], "wb"))
                writer = arrow.parquet.ParquetWriter(file, schema, compression="zstd", write_statistics=False)
            offsets = np.concatenate([[0], ends]).astype(np.int32)
            rows = arrow.ListArray.from_arrays(arrow.array(offsets), arrow.array(tokens.astype(np.int32)))
            writer.write_table(arrow.Table.from_arrays([rows], schema=schema))
            held += len(tokens)
            if held >= shard_tokens:
                writer.close()
                stack.close()
                writer, held = None, 0
        if not parts:
            parts.append(directory / f"{split}-00000.part")
            writer = arrow.parquet.ParquetWriter(stack.enter_context(open(parts[0], "wb")), schema)
        if writer is not None:
            writer.close()
    names = [f"{split}-{number:05d}-of-{len(parts):05d}.parquet" for number in range(len(parts))]
    for part, name in zip(parts, names, strict=True):
        part.rename(directory / name)
    return names


def _row_groups(frames: Iterable[np.ndarray], eot: int, least: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (tokens of whole documents, where each ends), frames together until they hold `least` tokens."""
    parts: list[np.ndarray] = []
    size = 0
    for tokens in frames:
        parts.append(tokens)
        size += len(tokens)
        if size < least:
            continue
        whole = np.concatenate(parts)
        ends = np.flatnonzero(whole == eot) + 1
        if len(ends):
            yield whole[: ends[-1]], ends
            whole = whole[ends[-1] :]
        parts, size = [whole], len(whole)
        if size >= MAX_ROW:
            raise BadInput(f"a document of more than {MAX_ROW:,} tokens is too long for a row of parquet")
    if size:
        whole = np.concatenate(parts)
        yield whole, np.flatnonzero(whole == eot) + 1


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Gpt2Error("parquet needs pyarrow, which is not installed: pip install 'gpt2cli[parquet]'") from None
    return pyarrow
