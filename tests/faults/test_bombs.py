"""Small files that unfold, or claim to be large, are refused by a sentence in little memory: bombs.py, one process.

Its address space may grow by half a GiB; the longest line and the largest vocabulary that are read take 64 MiB each.
Elsewhere: zstd, records, shards and indexes (records/test_bombs.py), pages that take an extractor's time or memory
(webtext/test_extract.py), bodies of answers (webtext/test_body.py), templates (evaluation/test_task_hostile.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment

MARGIN = 512 << 20
SAID = {
    "a line of 1 GiB in gzip": r"x\.gz line 1 is longer than 67108864 bytes",
    "a line of 1 GiB in bzip2": r"x\.bz2 line 1 is longer than",
    "a line of 1 GiB in xz": r"x\.xz line 1 is longer than",
    "a WARC of 1 GiB in gzip": "a line of more than 32768 bytes",
    "a WARC record that claims 10^17 bytes": "was cut short",
    "a page of 1 GiB in gzip": "^too_big$",
    "a page of 1 GiB in deflate": "^too_big$",
    "an HTTP header without an end": "^bad_response$",
    "rules of stars": "read in time: robots_denied",
    "a header of 2^63 bytes": "its header claims 9223372036854775808 of 10 bytes",
    "a shape of [0, 2^64 - 1]": r"wte.weight has shape \[0, 18446744073709551615\]",
    "a shape of a million sizes": r"has shape \[9, 9, [9, ]+\.\.\., config.json asks",
    "weights nested 200,000 deep": "its header is not JSON",
    "a hundred thousand tensors": "holds a tensor that GPT-2 has not: 't0'",
    "a network of 10^18 numbers": "has no model.safetensors",
    "a vocabulary of a million tokens": "its ids are not 0 to 1000256",
    "merges that make tokens of any length": "a token of more than 1024 bytes",
    "a vocabulary of 65 MiB": "larger than any vocabulary",
    "laughs": "more than 100,000 values|more than 32 deep",
    "brackets": "nested too deeply",
    "a number of a million digits": "a number with too many digits",
    "a number of 10^400": "beyond the range of a float",
    "a filter of 2^60 bits": "its header is not what was written",
    "a detector of 2^62 bytes": "its header claims 4,611,686,018,427,387,904 bytes",
    "signatures of 10^12 documents": "was cut short",
    "a model of llm.c's of 10^18 numbers": "has 1,024 bytes, its header says",
    "a table of OpenAI's of 2^60 bytes": "is damaged",
    "curves of 20,000 runs": "a picture of 1[0-9][0-9] lines, [78][0-9] columns",
}
SLOW = {"a line of 1 GiB in bzip2", "a line of 1 GiB in xz", "a hundred thousand tensors",
        "a vocabulary of a million tokens", "curves of 20,000 runs"}
"""Those that only `make test-faults` tries."""
MOST_KIB = {"a vocabulary of a million tokens": 400 << 10}


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is measured in /proc")
def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    environment = clean_environment(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}", OMP_NUM_THREADS="1",
                                    OPENBLAS_NUM_THREADS="1")
    done = subprocess.run([sys.executable, Path(__file__).with_name("bombs.py"), tmp_path, str(MARGIN)],
                          capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert found.keys() == SAID.keys() - (set() if os.environ.get("FAULTS") == "all" else SLOW)
    wrong = [record for name, record in found.items()
             if not re.search(SAID[name], record["said"]) or len(record["said"]) > 600
             or record["peak_kib"] > MOST_KIB.get(name, 160 << 10)]
    assert wrong == []
