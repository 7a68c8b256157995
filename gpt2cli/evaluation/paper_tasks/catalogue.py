"""All presets by name, and a Task from one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.paper_tasks.analogies import ANALOGIES
from gpt2cli.evaluation.paper_tasks.arithmetic import ARITHMETIC
from gpt2cli.evaluation.paper_tasks.cbt import CBT
from gpt2cli.evaluation.paper_tasks.example_pairs import AFTER_EXAMPLES
from gpt2cli.evaluation.paper_tasks.lambada import LAMBADA
from gpt2cli.evaluation.paper_tasks.preset import Preset, Source
from gpt2cli.evaluation.paper_tasks.reading import COQA
from gpt2cli.evaluation.paper_tasks.summaries import CNN_DM
from gpt2cli.evaluation.paper_tasks.syllogisms import SYLLOGISMS
from gpt2cli.evaluation.paper_tasks.winograd import WINOGRAD
from gpt2cli.evaluation.task import Task

PRESETS: Mapping[str, Preset] = MappingProxyType({
    **LAMBADA, **CBT, **WINOGRAD, **COQA, **CNN_DM, **AFTER_EXAMPLES, **ARITHMETIC, **ANALOGIES, **SYLLOGISMS,
})


def takes_data(name: str) -> bool:
    """Whether a preset reads the user's data, from standard input where no file is named; others make their own."""
    return name in PRESETS and bool(PRESETS[name].data)


def preset_task(name: str, source: Source) -> Task:
    """Return the task that a preset makes of the user's data.

    Raises UsageFault for an unknown name or files that do not fit it, BadInput for data that are not sound.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise UsageFault(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    if source.paths and not preset.data:
        raise UsageFault(f"--preset {name} makes its own data and takes no file; {source.paths[0]!r} was given")
    task = preset.make(name, source)
    if source.num_fewshot and task.shots.samples is None:
        raise UsageFault(f"--preset {name} is a zero-shot task and takes no --num-fewshot")
    return dataclasses.replace(task, published=preset.published)
