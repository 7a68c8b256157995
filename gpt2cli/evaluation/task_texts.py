"""The text of a task's item as one would look for it in what a model was trained on.

It is the item's own question with what is right after it: no instruction (description), no solved examples, no other
choice. Of several right answers it is the first. A text whose last word or token is asked for is that whole text, and a
sentence with a blank is the sentence with the right option in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.paper_tasks.catalogue import preset_task
from gpt2cli.evaluation.paper_tasks.preset import Source
from gpt2cli.evaluation.task import Doc, Item, Task
from gpt2cli.evaluation.task_data import Split, read_split
from gpt2cli.evaluation.task_file import load_task
from gpt2cli.evaluation.task_prompts import Prompts
from gpt2cli.tokens.unicode_loss import UnicodeLoss

ItemText = tuple[str, int, str]
"""A task's name, the number of an item of it (as in gpt2.item/1), and the item's text."""


class OwnTexts:
    """Gives the texts of one task's items."""

    def __init__(self, task: Task, split: Split) -> None:
        self._task = task
        self._prompts = Prompts(dataclasses.replace(task, description=""), split)

    def of(self, doc: Doc) -> str:
        """Return the text of a record's item; raise BadInput for a record that lacks what the task asks of it."""
        item = self._prompts.item(doc, ())
        if self._task.type == "cloze":
            return str(doc.fields[self._task.doc_to_text])
        if self._task.type == "last_token":
            return item.context
        if item.requests:
            requests = item.baseline if self._task.type == "substitution" else item.requests
            request = requests[_right(item) if item.choices else 0]
            return request.context + request.continuation
        answer = item.target[0] if isinstance(item.target, tuple) else item.target
        apart = self._task.target_delimiter if item.context[-1:].strip() else ""
        return f"{item.context}{apart}{answer}"


def item_texts(task_file: str) -> Iterator[ItemText]:
    """Yield the text of each item of a task: YAML or plain JSONL, `-` for standard input.

    Raises what load_task raises, and BadInput for a record that lacks what the task asks of it.
    """
    loss = UnicodeLoss()
    yield from texts_of_task(load_task(task_file, loss), loss)


def preset_item_texts(name: str, paths: Sequence[str], num_fewshot: int | None = None, seed: int = 1234
                      ) -> Iterator[ItemText]:
    """Yield the text of each item that a preset makes of data files, as `gpt2 eval-tasks --preset` makes them.

    num_fewshot: the preset's examples are no items of it; None is its own number. Raises what preset_task raises.
    """
    loss = UnicodeLoss()
    yield from texts_of_task(preset_task(name, Source(tuple(paths), num_fewshot, seed, loss)), loss)


def texts_of_task(task: Task, loss: UnicodeLoss) -> Iterator[ItemText]:
    """Yield the text of each item of a checked task; what was no Unicode is counted in `loss`."""
    split = read_split(task, task.split, loss)
    if not split.docs:
        raise BadInput(f"{task.where}: the data hold no record")
    texts = OwnTexts(task, split)
    for doc in split.docs:
        yield task.name, doc.number, texts.of(doc)


def _right(item: Item) -> int:
    label = item.target[0] if isinstance(item.target, tuple) else item.target
    if not isinstance(label, int):
        raise BadInput(f"{item.doc.where}: its label is no number of a choice")
    return label
