"""Analogies from a seed: a is to b as c is to which of four, over relations that any reader of English knows."""

from __future__ import annotations

import random

from gpt2cli.evaluation.paper_tasks.preset import Preset, Source, task_of
from gpt2cli.evaluation.task import Doc, Task

ITEMS = 1000
CHOICES = 4
RELATIONS: dict[str, str] = {
    "capital": """Paris France; Rome Italy; Madrid Spain; Berlin Germany; Vienna Austria; Athens Greece;
        Lisbon Portugal; Dublin Ireland; Oslo Norway; Stockholm Sweden; Helsinki Finland; Warsaw Poland;
        Budapest Hungary; Cairo Egypt;
        Tokyo Japan; Beijing China; Moscow Russia; Ottawa Canada; Havana Cuba;
        Lima Peru; Nairobi Kenya; Baghdad Iraq""",
    "language": """France French; Italy Italian; Spain Spanish; Germany German; Greece Greek; Norway Norwegian;
        Sweden Swedish; Finland Finnish; Poland Polish; Hungary Hungarian; Japan Japanese; China Chinese;
        Russia Russian; Denmark Danish; Portugal Portuguese; Turkey Turkish""",
    "female": """man woman; king queen; boy girl; father mother; son daughter; brother sister; uncle aunt; husband wife;
        actor actress; prince princess; nephew niece; grandfather grandmother; waiter waitress; hero heroine""",
    "young": """dog puppy; cat kitten; cow calf; horse foal; sheep lamb; bear cub; duck duckling; goat kid; hen chick;
        deer fawn; goose gosling; pig piglet; swan cygnet; frog tadpole""",
    "opposite": """hot cold; big small; fast slow; light dark; good bad; happy sad; rich poor; old new; high low;
        hard soft; wet dry; strong weak; early late; open closed; full empty; clean dirty; near far; loud quiet""",
    "past": """go went; see saw; take took; write wrote; eat ate; drink drank; run ran; sing sang; give gave; know knew;
        think thought; buy bought; bring brought; teach taught; catch caught; fly flew; speak spoke; break broke""",
    "plural": """child children; mouse mice; foot feet; tooth teeth; man men; woman women; goose geese; leaf leaves;
        knife knives; wolf wolves; city cities; box boxes; house houses; tree trees; baby babies; bus buses""",
    "comparative": """good better; bad worse; big bigger; small smaller; fast faster; slow slower; old older;
        young younger; strong stronger; weak weaker; easy easier; happy happier; tall taller; short shorter""",
    "place": """teacher school; doctor hospital; judge court; farmer farm; priest church; sailor ship; pilot cockpit;
        cook kitchen; actor stage; banker bank; waiter restaurant; scientist laboratory; soldier army;
        librarian library""",
    "part": """finger hand; toe foot; petal flower; page book; wheel car; branch tree; wing bird; key piano; sail boat;
        room house; drawer desk; string guitar; verse poem; rung ladder""",
}
"""Relation -> pairs, the first word's partner second."""
_NOTES = (
    f"{ITEMS:,} analogies drawn from --seed over {len(RELATIONS)} relations: a is to b as c is to d",
    f"the {CHOICES} choices are second words of the same relation, b never among them, so that chance is 25 %",
    "the GPT-2 paper has no such task",
)


def pairs_of(relation: str) -> list[tuple[str, str]]:
    """Return the pairs of a relation."""
    pairs = []
    for entry in RELATIONS[relation].split(";"):
        first, second = entry.split()
        pairs.append((first, second))
    return pairs


def _make(name: str, source: Source) -> Task:
    drawn = random.Random(f"{name} {source.seed}")
    relations = sorted(RELATIONS)
    docs = []
    for number in range(ITEMS):
        relation = drawn.choice(relations)
        pairs = pairs_of(relation)
        (a, b), (c, d) = drawn.sample(pairs, 2)
        others = sorted({second for _, second in pairs} - {b, d})
        choices = [d, *drawn.sample(others, CHOICES - 1)]
        drawn.shuffle(choices)
        docs.append(Doc(number, {"context": f"{a} is to {b} as {c} is to", "choices": choices,
                                 "label": choices.index(d), "relation": relation}, f"analogy {number + 1}"))
    return task_of(name, "multiple_choice", docs, ("acc", "acc_norm", "acc_mutual_info"), _NOTES,
                   doc_to_text="context", doc_to_choice="choices", doc_to_target="label")


ANALOGIES = {"analogies": Preset("a is to b as c is to one of four", "", _make)}
