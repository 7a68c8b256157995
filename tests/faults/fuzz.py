"""Fuzz the parsers of fuzz_targets.py for a bounded time, by coverage where atheris is installed.

usage: python tests/faults/fuzz.py [--seconds N] [--jobs N] [--found DIR] [PARSER ...]
       python tests/faults/fuzz.py --replay FILE PARSER

Each parser (default: all) gets N seconds in a process of its own. Inputs are taken both as they are and as choices of
hostile_edits.py, which edits a sound file with knowledge of zstd and JSON. Without atheris (`pip install
'gpt2cli[fuzz]'`) they are drawn by chance. A file that lets anything but a Gpt2Error escape is kept in DIR, and the
exit status is 1. --replay reads such a file once more and shows the traceback.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
STALLED_S = 30
"""Seconds that one input may take."""
MEMORY_MB = 2_000
GUIDED = importlib.util.find_spec("atheris") is not None


def main() -> int:
    """Run as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)  # of the one parser that this process fuzzes
    parser.add_argument("parsers", nargs="*")
    asked = parser.parse_args()
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    if asked.replay:
        return replay(asked.parsers[0], asked.replay)
    if asked.place:
        return fuzz_one(asked.parsers[0], asked.seconds, asked.found, asked.place)
    return fuzz_all(asked)


def fuzz_all(asked: argparse.Namespace) -> int:
    """Fuzz each parser in a process; tell what each came to."""
    from faults.fuzz_targets import PARSERS

    names = asked.parsers or list(PARSERS)
    unknown = [name for name in names if name not in PARSERS]
    if unknown:
        sys.exit(f"fuzz.py: there is no parser {unknown[0]!r}; there are: {', '.join(PARSERS)}")
    print(f"{len(names)} parsers, {asked.seconds:g} seconds each, {asked.jobs} at once, "
          f"{'guided by coverage (atheris)' if GUIDED else 'by chance (atheris is not installed)'}", flush=True)

    def run(name: str) -> bool:
        with tempfile.TemporaryDirectory(prefix="gpt2-fuzz-") as place:  # here, because atheris ends its process
            command = [sys.executable, __file__, "--place", place, "--seconds", f"{asked.seconds:g}",
                       "--found", asked.found, name]
            done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", check=False)
        count = re.findall(r"(?:number_of_executed_units: |tried )(\d+)", done.stdout + done.stderr)
        print(f"{'ok' if done.returncode == 0 else 'FOUND'}\t{name}\t{count[-1] if count else '?'} inputs", flush=True)
        if done.returncode:
            print("\n".join(line[:300] for line in (done.stdout + done.stderr).splitlines()[-40:]), flush=True)
        return done.returncode == 0

    with ThreadPoolExecutor(asked.jobs) as pool:
        return 0 if all(list(pool.map(run, names))) else 1


def fuzz_one(name: str, seconds: float, found: Path, place: Path) -> int:
    """Fuzz one parser in this process, with its files in `place`, until the time is up or something is found."""
    if GUIDED:
        import atheris

        watch = atheris.instrument_imports(include=["gpt2cli"], enable_loader_override=False)
    else:
        watch = nullcontext()
    with watch:
        from faults.fuzz_seeds import make_seeds
        from faults.fuzz_targets import PARSERS
    from tiny_models import one_thread

    one_thread()
    path = make_seeds(place / "seeds") / PARSERS[name].seed
    attempt = attempts(PARSERS[name], path, found)
    if GUIDED:
        (place / "corpus").mkdir()
        (place / "corpus" / "sound").write_bytes(b"\0" + path.read_bytes())
        atheris.Setup([sys.argv[0], str(place / "corpus"), f"-max_total_time={max(1, round(seconds))}",
                       "-max_len=100000", "-print_final_stats=1", f"-timeout={STALLED_S}", f"-rss_limit_mb={MEMORY_MB}",
                       f"-artifact_prefix={place}/"], attempt)
        atheris.Fuzz()  # ends the process
    end, numbers, tried = time.monotonic() + seconds, random.Random(name), 0
    while time.monotonic() < end:
        attempt(b"\1" + numbers.randbytes(numbers.randrange(8, 512)))
        tried += 1
    print(f"tried {tried}")
    return 0


def attempts(parser: Any, path: Path, found: Path) -> Callable[[bytes], None]:
    """Return what takes a fuzzer's input: after a first byte that is even, the file itself, else choices of edits."""
    from faults.fuzz_targets import judge
    from faults.hostile_edits import edited
    from hypothesis import given, settings

    def keeping(data: bytes) -> None:
        try:
            judge(parser, path, data)
        except BaseException:
            found.mkdir(parents=True, exist_ok=True)
            kept = found / f"{hashlib.sha256(data).hexdigest()[:16]}-{path.name}"
            kept.write_bytes(data)
            print(f"kept {kept}", file=sys.stderr, flush=True)
            raise

    drawn = settings(database=None, deadline=None)(given(edited(path.read_bytes()))(keeping))
    chosen = drawn.hypothesis.fuzz_one_input

    def attempt(data: bytes) -> None:
        if data[:1] and data[0] % 2:
            chosen(data[1:])
        else:
            keeping(data[1:])

    return attempt


def replay(name: str, file: Path) -> int:
    """Let a parser read a kept file."""
    from faults.fuzz_seeds import make_seeds
    from faults.fuzz_targets import PARSERS, judge

    with tempfile.TemporaryDirectory(prefix="gpt2-fuzz-") as directory:
        path = make_seeds(Path(directory) / "seeds") / PARSERS[name].seed
        judge(PARSERS[name], path, file.read_bytes())
    print("nothing escapes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
