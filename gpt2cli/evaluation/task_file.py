"""Task files, checked: lm-evaluation-harness's YAML where it is declarative, or plain JSONL told by its first line."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Any, cast

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.task import TYPES, Doc, Filter, MetricChoice, Shots, Task
from gpt2cli.evaluation.task_data import find_data, parse_docs
from gpt2cli.evaluation.task_metrics import AGGREGATIONS, METRICS, default_metrics
from gpt2cli.evaluation.task_values import Entries
from gpt2cli.evaluation.task_yaml import read_task_yaml
from gpt2cli.records.provenance import json_sha256
from gpt2cli.records.streams import display_name, open_input
from gpt2cli.tokens.unicode_loss import UnicodeLoss

_CODE = ("process_docs", "process_results", "custom_dataset", "class", "use_prompt")
_GROUP = ("group", "group_alias", "aggregate_metric_list", "task_list")
_MEDIA = ("doc_to_image", "doc_to_audio")
_NO_EFFECT = ("task_alias", "tag", "metadata", "dataset_name", "training_split", "should_decontaminate",
              "doc_to_decontamination_query", "recipe")
_RECORDS = (".jsonl", ".json", ".jsonl.zst", ".json.zst")
PLAIN = {
    ("context", "choices"): ("multiple_choice", "label"),
    ("context", "continuation"): ("loglikelihood", "continuation"),
    ("sentence", "options"): ("substitution", "label"),
    ("prompt", "answer"): ("generate_until", "answer"),
    ("text",): ("cloze", ""),
}
"""The fields of a plain record -> the type of its task and the field that says what is right."""


def load_task(path: str, loss: UnicodeLoss) -> Task:
    """Return the task in a file: YAML, or plain JSONL (`-`: from standard input), told by the name, else by content.

    Raises BadInput for what is neither, for what is not supported, each key by its name, and UsageFault for no file.
    """
    if path.endswith((".yaml", ".yml")):
        return task_of_yaml(path)
    with open_input(path) as stream:
        buffered = cast(io.BufferedReader, stream)
        head = buffered.peek(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if head in (b"{", b"[") or path == "-" or path.endswith(_RECORDS):
            return task_of_records(buffered, display_name(path), loss)
    return task_of_yaml(path)


def task_of_records(stream: Any, name: str, loss: UnicodeLoss) -> Task:
    """Return the task that plain records (JSONL in an open stream) are; the first one tells its type."""
    docs = tuple(parse_docs(stream, name, loss))
    if not docs:
        raise BadInput(f"{name} holds no record")
    found = next((fields for fields in PLAIN if all(field in docs[0].fields for field in fields)), None)
    if found is None:
        shapes = "; ".join(" and ".join(dict.fromkeys([*fields, target or fields[0]])) for fields, (_, target) in
                           PLAIN.items())
        raise BadInput(f"{docs[0].where} is no record of a task; a record holds {shapes}")
    kind, target = PLAIN[found]
    _check_plain(docs, found[0], [*found, *([target] if target else [])])
    choices = found[1] if kind in ("multiple_choice", "substitution") else None
    delimiter = "" if kind == "loglikelihood" else " "
    shots = Shots("records", sampler="first_n", doc_to_text=found[0], doc_to_target=target, doc_to_choice=choices,
                  target_delimiter=delimiter, exclude_own=True)
    return Task(name=Path(name).name.split(".")[0], type=kind, files={}, split="records", where=name, docs=docs,
                doc_to_text=found[0], doc_to_target=target, doc_to_choice=choices, shots=shots,
                metrics=default_metrics(kind), sha256=json_sha256({"plain": kind}))


def _check_plain(docs: tuple[Doc, ...], question: str, fields: list[str]) -> None:
    for doc in docs:
        missing = next((field for field in fields if field not in doc.fields), None)
        if missing is not None:
            raise BadInput(f"{doc.where} has no field {missing!r}")
        if not isinstance(doc.fields[question], str):
            raise BadInput(f"{doc.where}: its {question} is no text")
        label = doc.fields.get("label") if "label" in fields else None
        if isinstance(label, bool) or (isinstance(label, list) and any(isinstance(each, bool) for each in label)):
            raise BadInput(f"{doc.where}: its label is true or false, which names no choice; write the number of the "
                           "right one from 0, or its text in quotes")


def task_of_yaml(path: str) -> Task:
    """Return the task that a YAML file in lm-evaluation-harness's form describes; see load_task."""
    mapping, sha256 = read_task_yaml(path)
    return task_of_mapping(mapping, path, sha256)


def task_of_mapping(mapping: dict[str, Any], where: str, sha256: str) -> Task:
    """Return the task that a YAML file's mapping describes."""
    _refuse(mapping, where)
    keys = Entries({key: value for key, value in mapping.items() if value is not None}, where)
    for name in _NO_EFFECT:
        keys.pass_over(name)
    kind = keys.choice("output_type", TYPES, "generate_until")
    files, data_field = _data(keys, where)
    test, validation = keys.optional_text("test_split"), keys.optional_text("validation_split")
    split = test or validation
    if split is None:
        raise BadInput(f"{where} names neither test_split nor validation_split: there is nothing to evaluate")
    task = Task(
        name=keys.text("task", Path(where).name.split(".")[0]), type=kind, files=files, split=split, sha256=sha256,
        where=where, data_field=data_field,
        doc_to_text=keys.rule("doc_to_text", None),
        doc_to_target=keys.rule("doc_to_target", None),
        doc_to_choice=keys.rule("doc_to_choice", None, lists=True),
        target_delimiter=keys.text("target_delimiter", " "), fewshot_delimiter=keys.text("fewshot_delimiter", "\n\n"),
        description=keys.text("description", ""), gen_prefix=keys.optional_text("gen_prefix"),
        num_fewshot=keys.count("num_fewshot", 0), metrics=_metrics(keys, kind, where),
        generation=keys.mapping("generation_kwargs"), repeats=keys.count("repeats", 1), filters=_filters(keys, where),
    )
    task = dataclasses.replace(task, shots=_shots(keys, task, mapping, test))
    keys.finish()
    _check(task)
    return task


def _refuse(mapping: dict[str, Any], where: str) -> None:
    for name in (*_GROUP, *_CODE, *_MEDIA):
        if mapping.get(name) is None:
            continue
        if name in _GROUP:
            raise BadInput(f"{where} is a group of tasks ({name}); name the files of its tasks instead")
        if name in _MEDIA:
            raise BadInput(f"{where}: {name} is not supported; GPT-2 reads text")
        raise BadInput(f"{where}: {name} is Python code by its nature and is not supported; write a template, or "
                       "prepare the data beforehand")
    if isinstance(mapping.get("task"), list):
        raise BadInput(f"{where} is a group of tasks (task is a list); name the files of its tasks instead")
    if mapping.get("unsafe_code"):
        raise BadInput(f"{where}: unsafe_code is not supported; nothing that a model writes is run")
    mapping.pop("unsafe_code", None)


def _data(keys: Entries, where: str) -> tuple[dict[str, tuple[str, ...]], str | None]:
    kind = keys.optional_text("dataset_path")
    if kind != "json":
        raise BadInput(f"{where}: dataset_path is {kind or 'missing'}, and only json is read: local files, named in "
                       "dataset_kwargs as data_files")
    inner = Entries(keys.mapping("dataset_kwargs"), f"{where}: dataset_kwargs")
    inner.pass_over("trust_remote_code")
    files = inner.value("data_files", None)
    root = inner.text("data_dir", "")
    data_field = inner.optional_text("field")
    inner.finish()
    if isinstance(files, (str, list)):
        files = {"train": files}
    if not isinstance(files, dict) or not files:
        raise BadInput(f"{where}: dataset_kwargs says no data_files; write a path, a list, or a path for each split")
    directory = os.path.dirname(where)
    found = {}
    for split, paths in files.items():
        names = paths if isinstance(paths, list) else [paths]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise BadInput(f"{where}: data_files of the split {split!r} are no paths")
        remote = [name for name in names if "://" in name]
        if remote:
            raise BadInput(f"{where}: {remote[0]} is not a local file; fetch it first and name the file")
        found[str(split)] = tuple(find_data(os.path.join(root, name), directory) for name in names)
    return found, data_field


def _metrics(keys: Entries, kind: str, where: str) -> tuple[MetricChoice, ...]:
    entries = keys.value("metric_list", None)
    if entries is None:
        return default_metrics(kind)
    chosen = []
    for entry in Entries.mappings(entries, f"{where}: metric_list"):
        name = entry.optional_text("metric")
        metric = METRICS.get(name or "")
        if metric is None or kind not in metric.types:
            known = ", ".join(sorted(known for known, metric in METRICS.items() if kind in metric.types))
            raise BadInput(f"{where}: there is no metric {name!r} for {kind}; there are {known}")
        aggregation = entry.choice("aggregation", tuple(AGGREGATIONS), metric.aggregation)
        default = AGGREGATIONS[metric.aggregation].takes
        if AGGREGATIONS[aggregation].takes != default:
            raise BadInput(f"{where}: {name} cannot be aggregated by {aggregation}; leave aggregation out, or write "
                           f"{metric.aggregation}")
        entry.pass_over("hf_evaluate")
        better = entry.flag("higher_is_better", metric.higher_is_better)
        options = entry.rest(metric.options)
        chosen.append(MetricChoice(str(name), aggregation, better, options))
    if not chosen or len({metric.name for metric in chosen}) < len(chosen):
        raise BadInput(f"{where}: metric_list is empty or names a metric twice")
    return tuple(chosen)


def _filters(keys: Entries, where: str) -> tuple[Filter, ...]:
    found = []
    for pipeline in Entries.mappings(keys.value("filter_list", []), f"{where}: filter_list"):
        name = pipeline.optional_text("name")
        steps = []
        for step in Entries.mappings(pipeline.value("filter", []), f"{where}: filter {name}"):
            steps.append((str(step.optional_text("function")), step.rest(None)))
        pipeline.finish()
        found.append(Filter(str(name), tuple(steps)))
    return tuple(found)


def _shots(keys: Entries, task: Task, mapping: dict[str, Any], test: str | None) -> Shots:
    own = Entries(keys.mapping("fewshot_config"), f"{task.where}: fewshot_config")
    if own.value("process_docs", None) is not None:
        raise BadInput(f"{task.where}: process_docs is Python code by its nature and is not supported")
    split = own.optional_text("split", keys.optional_text("fewshot_split"))
    samples = own.value("samples", None)
    if samples is not None and not (isinstance(samples, list) and all(isinstance(sample, dict) for sample in samples)):
        raise BadInput(f"{task.where}: fewshot_config's samples are no list of records")
    exclude = split == test
    if split is None and samples is None:
        named = (mapping.get("training_split"), mapping.get("validation_split"), test)
        split = next((str(name) for name in named if name is not None), None)
    shots = Shots(
        split=split, samples=None if samples is None or split is not None else tuple(samples),
        sampler=own.choice("sampler", ("default", "first_n"), "default"),
        doc_to_text=own.rule("doc_to_text", task.doc_to_text),
        doc_to_target=own.rule("doc_to_target", task.doc_to_target),
        doc_to_choice=own.rule("doc_to_choice", task.doc_to_choice, lists=True),
        gen_prefix=own.optional_text("gen_prefix", task.gen_prefix),
        target_delimiter=own.text("target_delimiter", task.target_delimiter),
        fewshot_delimiter=own.text("fewshot_delimiter", task.fewshot_delimiter), exclude_own=exclude,
    )
    own.finish()
    return shots


def _check(task: Task) -> None:
    if task.type == "multiple_choice" and task.doc_to_choice is None:
        raise BadInput(f"{task.where}: multiple_choice needs doc_to_choice")
    if task.type in ("cloze", "substitution"):
        raise BadInput(f"{task.where}: {task.type} is a type of plain JSONL; in YAML write it with templates")
    if task.doc_to_text is None or task.doc_to_target is None:
        raise BadInput(f"{task.where} has no {'doc_to_text' if task.doc_to_text is None else 'doc_to_target'}")
    if task.split not in task.files:
        raise BadInput(f"{task.where}: the split {task.split!r} is not among its data files ({', '.join(task.files)})")
    if task.repeats < 1:
        raise BadInput(f"{task.where}: repeats is {task.repeats}; an item is asked at least once")
    if task.type != "generate_until":
        for name, value in (("generation_kwargs", task.generation), ("filter_list", task.filters)):
            if value:
                raise BadInput(f"{task.where}: {name} goes with generate_until, not with {task.type}")
