"""Syllogisms from a seed: does a conclusion follow from two premises, in all 256 moods and figures of the tradition.

Valid are the fifteen that hold whatever there is; the nine that hold only where there are such things at all are left
out, since people disagree about them.
"""

from __future__ import annotations

import itertools
import random

from gpt2cli.evaluation.paper_tasks.preset import Preset, Source, task_of
from gpt2cli.evaluation.task import Doc, Task

ITEMS = 1000
VALID = frozenset((
    "AAA1", "EAE1", "AII1", "EIO1", "EAE2", "AEE2", "EIO2", "AOO2", "IAI3", "AII3", "OAO3", "EIO3", "AEE4", "IAI4",
    "EIO4",
))
"""Mood (major premise, minor premise, conclusion) and figure."""
ONLY_IF_THERE_ARE = frozenset(("AAI1", "EAO1", "AEO2", "EAO2", "AAI3", "EAO3", "AAI4", "AEO4", "EAO4"))
FORMS = {"A": "All {} are {}.", "E": "No {} are {}.", "I": "Some {} are {}.", "O": "Some {} are not {}."}
TERMS = (
    "actors", "bakers", "bicycles", "birds", "boats", "books", "bridges", "candles", "carpenters", "cats", "chairs",
    "clocks", "dancers", "dogs", "dreamers", "farmers", "flowers", "foxes", "gardens", "horses", "islands", "kings",
    "lamps", "letters", "mountains", "musicians", "owls", "painters", "pilots", "poems", "rivers", "sailors", "singers",
    "songs", "swimmers", "teachers", "towers", "trees", "weavers", "wolves", "writers",
)
ALL = tuple("".join(mood) + figure for mood in itertools.product("AEIO", repeat=3) for figure in "1234")
_NOTES = (
    f"{ITEMS:,} syllogisms drawn from --seed, every second one valid, so that chance is 50 %",
    "valid are the 15 forms that hold whatever there is; the 9 that presume that there are such things are left out",
    "terms are drawn at random, so that knowing the world does not help; the GPT-2 paper has no such task",
)


def premises_and_conclusion(form: str, subject: str, predicate: str, middle: str) -> tuple[str, str, str]:
    """Return the three sentences of a form ("AAA1") with its terms put in."""
    major, minor, conclusion, figure = tuple(form)
    majors = {"1": (middle, predicate), "2": (predicate, middle), "3": (middle, predicate), "4": (predicate, middle)}
    minors = {"1": (subject, middle), "2": (subject, middle), "3": (middle, subject), "4": (middle, subject)}
    return (FORMS[major].format(*majors[figure]), FORMS[minor].format(*minors[figure]),
            FORMS[conclusion].format(subject, predicate))


def _make(name: str, source: Source) -> Task:
    drawn = random.Random(f"{name} {source.seed}")
    invalid = sorted(set(ALL) - VALID - ONLY_IF_THERE_ARE)
    docs = []
    for number in range(ITEMS):
        valid = number % 2 == 0
        form = drawn.choice(sorted(VALID) if valid else invalid)
        major, minor, conclusion = premises_and_conclusion(form, *drawn.sample(TERMS, 3))
        question = f"{major} {minor}\nQuestion: Does it follow that {conclusion[0].lower()}{conclusion[1:-1]}?\nAnswer:"
        docs.append(Doc(number, {"question": question, "choices": ["yes", "no"], "label": int(not valid), "form": form},
                        f"syllogism {number + 1}"))
    return task_of(name, "multiple_choice", docs, ("acc", "acc_mutual_info"), _NOTES, doc_to_text="question",
                   doc_to_choice="choices", doc_to_target="label")


SYLLOGISMS = {"syllogisms": Preset("does a conclusion follow from two premises", "", _make)}
