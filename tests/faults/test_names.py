"""Files and directories of names with a newline, quotes, a leading dash, bytes that are no UTF-8, escape codes: every
stage reads and writes them to the bytes it makes of plain names, and every message shows them on one line, escaped.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import sys
from pathlib import Path

import pytest
from faults.failing_calls import WHOLE, Faults, Stage, Trial, some_of
from faults.stages import STAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
NAMES = {"newline": "a\nb", "quotes": "it's \"one\" `two` $three", "dash": "-n", "no UTF-8": "caf\udce9",
         "escape codes": "\x1b[31mred\x1b]0;x\x07\x9b", "bidi": "\u202ecod", "space": " \t ", "per cent": "%s%n{0}"}
IN_WORDS = {"newline": "a\\nb", "no UTF-8": "caf\\xe9", "escape codes": "\\x1b[31mred\\x1b]0;x\\x07\\x9b",
            "bidi": "\\u202ecod"}
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
HERE = [name for name, stage in STAGES.items() if "web" not in stage.arguments]
"""Stages that say nothing of a directory of work."""
NAMING = ("overlap", "eval-tasks", "detect train", "plot")
"""Stages whose outputs tell what their inputs are called."""


def renamed(stage: Stage, work: Path, name: str) -> tuple[Stage, dict[str, str]]:
    """Return the stage with every input and output in a file of a strange name, and what its outputs are called now."""
    words, outputs = list(stage.arguments), {}
    for place, word in enumerate(words):
        suffix = "".join(Path(word).suffixes)
        if word in stage.outputs and words[place - 1] in ("-o", "--rejects", "--write-bloom"):
            words[place] = outputs[word] = f"{name}out{place}{suffix}"
        elif place and word not in stage.outputs and (work / word).exists():
            words[place] = f"{name}in{place}{suffix}"
            os.symlink(os.path.realpath(work / word), work / words[place])
            if not words[place - 1].startswith("-"):
                words[place] = f"./{words[place]}"
    return Stage(tuple(words), tuple(outputs.values()), content=stage.content), outputs


def told(work: Path, name: str) -> str:
    path = work / name
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file()
                                   and file.name not in ("perf.jsonl", "lock"))).hexdigest()


@pytest.mark.parametrize("name", some_of(HERE, 2, "names"))
def test_a_stage_with_strange_names(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    stage = STAGES[name]
    trial = Trial(stage, faults, inputs, tmp_path)
    for kind in NAMES if WHOLE else random.Random(name).sample(sorted(NAMES), 2):
        work = trial.begin()
        strange, outputs = renamed(stage, work, NAMES[kind])
        done = faults.run(strange, work)
        assert done["status"] == 0, (kind, strange.arguments, done)
        assert not CONTROLS.search(done["stderr"]), (kind, done["stderr"])
        assert len(done["stderr"].splitlines()) == len(trial.whole["stderr"].splitlines()), (kind, done["stderr"])
        for plain, given in outputs.items():
            assert name in NAMING or told(work, given) == told(trial.place_of_right, plain), (kind, plain)
        assert [path for path in os.listdir(work) if ".tmp-" in path] == []


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", some_of(HERE, 1, "none"))
def test_a_strange_name_of_nothing(kind: str, name: str, faults: Faults, work: Path) -> None:
    """One sentence, the name in it escaped."""
    words = list(STAGES[name].arguments)
    first = next(place for place, word in enumerate(words) if "." in word or "/" in word or word == "shards")
    words[first] = f"./{NAMES[kind]}"
    done = faults.run(Stage(tuple(words), ()), work)
    last = done["stderr"].splitlines()[-1]
    assert done["status"] in (2, 74) and IN_WORDS.get(kind, NAMES[kind]) in last, done
    assert last.startswith("gpt2 ") and not CONTROLS.search(done["stderr"]), done


@pytest.mark.parametrize("kind", NAMES)
def test_a_strange_word_where_none_is_known(kind: str, faults: Faults, tmp_path: Path) -> None:
    work = tmp_path / "place" / "work"
    (work / "tmp").mkdir(parents=True)
    for words in ((NAMES[kind],), ("pack", "--size" + NAMES[kind]), ("fit-scaling", "optimal", "--law", NAMES[kind])):
        done = faults.run(Stage(words, ()), work)
        assert done["status"] == 2 and done["stderr"].count("\n") == 1 and not CONTROLS.search(done["stderr"]), done
