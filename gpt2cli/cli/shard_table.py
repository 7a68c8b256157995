"""gpt2.shard-info records as a table for a person."""

from __future__ import annotations

from typing import Any

from gpt2cli.cli.console import one_line
from gpt2cli.errors import counted


def table_of(info: dict[str, Any]) -> str:
    """Return the lines for one shard or shard set, its name first."""
    rows = [("tokens", _tokens(info)), ("documents", _documents(info)), ("text", _text(info)), ("file", _file(info)),
            ("vocabulary", _vocabulary(info))]
    if info.get("source") is not None:
        rows.append(("source", str(info["source"])))
    for key in ("sha256", "input_sha256", "data_sha256"):
        if info.get(key):
            rows.append((key.replace("_", " "), str(info[key])))
    for split, counts in info.get("splits", {}).items():
        held = f"{counted(counts['tokens'], 'token')} in {counted(counts['documents'], 'document')}"
        rows.append((split, f"{held}, {counts['files']:,} file{'' if counts['files'] == 1 else 's'}"))
    name = "standard input" if info["path"] == "-" else info["path"]
    lines = [f"{name}: {info['kind']}", *(f"  {label:<13} {value}" for label, value in rows)]
    return "".join(one_line(line) + "\n" for line in lines)


def _tokens(info: dict[str, Any]) -> str:
    return f"{info['tokens']:,} as {info['dtype']}"


def _documents(info: dict[str, Any]) -> str:
    count = info["documents"]
    if not count:
        return "none"
    return (f"{count:,}, of {info['shortest_document']:,} to {info['longest_document']:,} tokens, median "
            f"{info['median_document']:,.0f}, end-of-text included")


def _text(info: dict[str, Any]) -> str:
    if info["text_bytes"] is None:
        return "of unknown size"
    each = f", {info['bytes_per_token']:.2f} bytes a token" if info["bytes_per_token"] else ""
    return f"{info['text_bytes']:,} bytes{each}"


def _file(info: dict[str, Any]) -> str:
    many = f"{info['files']:,} files, " if "files" in info else ""
    joined = f", {info['joined']:,} shards joined" if info.get("joined", 1) > 1 else ""
    return (f"{many}{info['bytes']:,} bytes, compression ratio {info['compression_ratio']:.2f}, {info['frames']:,} "
            f"frame{'' if info['frames'] == 1 else 's'}{joined}")


def _vocabulary(info: dict[str, Any]) -> str:
    whose = "carried along" if info["carries_vocabulary"] else "GPT-2's own"
    return f"{info['n_vocab']:,} ids, end-of-text {info['eot']}, {whose}, {info['tokenizer_sha256'][:12]}..."
