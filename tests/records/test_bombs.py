"""Small files that claim much are refused in bounded memory: all of them in one process whose address space is limited.

The limit is 256 MiB above what the imports take; nothing here would need a tenth of it if nobody lied.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MARGIN = 256 << 20

BOMBS = r'''
import io, json, os, resource, struct, sys
from pathlib import Path
import numpy as np, zstandard
from gpt2cli.errors import Gpt2Error
from gpt2cli.records import shard_format as form
from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.records.shard import ShardFile, ShardHeader, read_shard
from gpt2cli.records.shard_set import load_shard_set

place = Path(sys.argv[1])
header = form.pack_header(ShardHeader(50257, 50256, "0" * 64))
ZSTD = b"\x28\xb5\x2f\xfd"
rle = (131_072 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
last = b"\1\0\0" + bytes(4)

def footer(tokens, documents, index):
    return form.pack_footer(form.ShardFooter(tokens, documents, "0" * 64, None, None, "0" * 64, "0" * 64, index))

def ones(count):
    """The packed document index of `count` documents of one token each."""
    packer, parts = zstandard.ZstdCompressor().compressobj(size=4 * count), []
    block = np.ones(1 << 20, dtype="<u4").tobytes()
    for _ in range(count >> 20):
        parts.append(packer.compress(block))
    return b"".join(parts) + packer.flush()

deep = b"[" * 200_000
shards = {
    "a frame of 2^40 bytes": header + ZSTD + bytes([0xE4]) + (1 << 40).to_bytes(8, "little") + rle * 4 + last,
    "a window of 2^41 bytes": header + ZSTD + bytes([0x84, 0xF8]) + (262_144).to_bytes(4, "little") + rle * 2 + last,
    "10^9 bytes for each of the file's": header + ZSTD + bytes([0xA4]) + (262_144).to_bytes(4, "little")
        + rle * 60_000 + last,
    "a header nested 200,000 deep": form.skippable(form.HEADER_MAGIC, b'{"schema":' + deep),
    "a header of 4 GiB": struct.pack("<II", form.HEADER_MAGIC, 0xFFFFFFFF) + b"{",
    "a footer of 4 GiB": header + struct.pack("<II", form.FOOTER_MAGIC, 0xFFFFFFFF),
    "2^31 documents": header + footer(1 << 40, 1 << 31, form.pack_index(np.ones(9))),
    "2^27 documents, with an index of so many": header + footer(1 << 27, 1 << 27, ones(1 << 27)),
    "an index longer than its documents": header + footer(9, 9, ones(1 << 26)),
    "an index that declares 2^40 bytes": header + footer(9, 9, ZSTD + bytes([0xE0]) + (1 << 40).to_bytes(8, "little")),
    "a seek table of 2^32 frames": header + footer(0, 0, b"") + form.skippable(
        form.SEEK_MAGIC, struct.pack("<IBI", 0xFFFFFFFF, 0x80, form.SEEKABLE)),
}

def stream(path):
    with open(path, "rb") as file:
        for _ in read_shard(file, str(path))[1]:
            pass

def at_random(path):
    with ShardFile(path) as shard:
        shard.read(0, shard.n_tokens)

def records(path):
    for _ in read_records(path, ReadTally(), foreign=True):
        pass

tries = [(name, data, read) for name, data in shards.items() for read in (stream, at_random)]
line = ZSTD + bytes([4, 0x58]) + rle * 40_000
tries += [("records: a line of 5 GB", line + last, records), ("records: deep", b'{"a":' + deep, records),
          ("records: a window of 2^41", ZSTD + bytes([4, 0xF8]) + last, records)]
size = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]),) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number, (name, data, read) in enumerate(tries):
    path = place / f"{number}"
    path.write_bytes(data)
    try:
        read(path)
    except Gpt2Error as error:
        print(f"{name}: {str(error)[len(str(path)):][:100]}")
    else:
        sys.exit(f"{name} passed")
(place / "index.json").write_bytes(b'{"schema":"gpt2.shards/1","files":' + deep)
try:
    load_shard_set(place)
except Gpt2Error as error:
    print(f"index.json nested 200,000 deep: {error}")
else:
    sys.exit("a deep index.json passed")
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "KiB more", len(tries) + 1, "bombs")
'''


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="address space is measured in /proc")
def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", BOMBS, str(tmp_path), str(MARGIN)], capture_output=True, text=True,
                            check=False, env=environment)
    assert result.returncode == 0, result.stderr + result.stdout
    lines = result.stdout.splitlines()
    assert lines[-1].endswith("26 bombs") and len(lines) == 27
    assert sum("it ends inside" in line for line in lines) == 0, result.stdout
