"""Task files are foreign: nothing in one is run, and no file makes the program large or slow."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.evaluation.task_file import load_task, task_of_mapping
from gpt2cli.evaluation.task_templates import Templates
from gpt2cli.evaluation.task_yaml import MAX_BYTES, parse_yaml, read_task_yaml
from gpt2cli.tokens.unicode_loss import UnicodeLoss

FIELDS = {"q": "What?", "c": ["a", "b"], "n": 3, "d": {"text": ["x", "y"]}}
LAUGHS = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 10)) for level in range(1, 10))


@pytest.mark.parametrize(("data", "words"), [
    (LAUGHS, "more than 100,000 values"),
    (b"a: &a [*a]", "inside of what it names"),
    (b"[" * 1200, "nested too deeply"),
    (b"a: " + b"{a: " * 40 + b"1" + b"}" * 40, "more than 32 deep"),
    (b"a: " + b"9" * 5000, "does not have"),
    (b"a: !function x.y", "never run"),
    (b"a: !!python/object/apply:os.system [x]", "not YAML|plain values|does not have"),
    (b"a: !mine x", "the tag !mine"),
    (b"a: 1\nb: 2\na: 3", "stands twice"),
    (b"a: \xff", "not UTF-8 at byte 3"),
    (b"", "is empty"),
    (b"- a", "no YAML mapping"),
    (b"a: [", "not YAML at line"),
    (b"a" * (MAX_BYTES + 1), "too large"),
    (b"a: !!binary aGk=", "bytes"),
])
def test_yaml_that_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse_yaml(data, "task.yaml")


def test_yaml_that_is_fine() -> None:
    data = b"\xef\xbb\xbfa: [1, 2.5, yes, null, x]\r\nb: &b {c: 2001-01-01}\r\nd: *b\r\ne: {<<: *b, f: 1}\r\n"
    date = {"c": "2001-01-01"}
    assert parse_yaml(data, "x") == {"a": [1, 2.5, True, None, "x"], "b": date, "d": date, "e": {**date, "f": 1}}


def test_includes_are_merged_below_and_cannot_turn_in_circles(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("a: 1\nb: 2\ntask_list: [x]\n")
    (tmp_path / "outer.yaml").write_text("include: inner\nb: 3\n")
    merged, digest = read_task_yaml(str(tmp_path / "outer.yaml"))
    assert merged == {"a": 1, "b": 3}
    (tmp_path / "inner").write_text("a: 2\nb: 2\n")
    assert read_task_yaml(str(tmp_path / "outer.yaml"))[1] != digest
    (tmp_path / "inner").write_text("include: outer.yaml\n")
    with pytest.raises(BadInput, match="includes itself"):
        read_task_yaml(str(tmp_path / "outer.yaml"))


@pytest.mark.parametrize(("template", "text"), [
    ("Q: {{q}}\nA:\n", "Q: What?\nA:\n"),
    ("{{c}} {{ d.text[1] }}", "['a', 'b'] y"),
    ("{% for x in c %}{{loop.index}}{{x}}{% if not loop.last %}, {% endif %}{% endfor %}", "1a, 2b"),
    ("{% set ns = namespace(x=0) %}{% for i in range(n) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "3"),
    ("{{ q.strip('?')|upper ~ '!' * 2 }}{{ ' and '.join(c) }}", "WHAT!!a and b"),
    ("{{ q|regex_replace('W(h)', '\\\\1\\\\1') }}{{ c|map('upper')|list|join('-') }}", "hhat?A-B"),
    ("{{ ['A', 'B'].index('B') }}{{ 'yes' if n == 3 else 'no' }}{{ c|length }}", "1yes2"),
])
def test_templates_fill(template: str, text: str) -> None:
    assert Templates().render(template, FIELDS, "line 1") == text


@pytest.mark.parametrize("template", [
    "{{ 'a' * 10**9 }}", "{{ [q] * 10**9 }}", "{{ 9**99999999 }}", "{{ ('a' * 1000000) ~ ('a' * 1000000) }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ q * 1000 }}{% endfor %}",
    "{% set a = ['x' * 100000] %}{{ a * 100000 }}", "{{ [['x' * 1000] * 1000] * 1000 }}",
    "{% set x = 'ab' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}",
    "{% set x = ['ab'] %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
    "{% set x = 'ab' %}" + "{% set x = x.replace('', x) %}" * 40 + "{{ x }}",
    "{% set x = 'ab' %}" + "{% set x = x|replace('', x) %}" * 40 + "{{ x }}",
    "{% set x = c %}" + "{% set x = x + x %}" * 40 + "{{ x }}", "{{ q|join('x' * 1000000) }}",
    "{{ '%1000000000d' % n }}", "{{ '{:>1000000000}'.format(n) }}", "{{ q.ljust(10**10) }}", "{{ q|center(10**9) }}",
    "{{ ''.__class__ }}", "{{ c.append(1) }}", "{{ d.update(a=1) }}", "{{ q.format }}", "{{ missing }}", "{{ n / 0 }}",
    "{{ q.missing }}", "{{ c[7] }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% include 'x' %}",
    "{% for x in c recursive %}{{ loop(c) }}{% endfor %}", "{{ lipsum(n=1000) }}", "{{ cycler }}", "{{ range }}",
    "{{ self }}", "{{ c|map('upper') }}", "{{" + "(" * 5000, "{" * 100, "{{ q|regex_replace('(', '') }}",
    "{{ q|regex_replace('W', '\\\\9') }}", "x" * 100_000, "{{ q|attr('__class__') }}", "{{ n|sum }}", "{{ q * 1e999 }}",
])
def test_templates_that_fail_say_so(template: str) -> None:
    with pytest.raises(BadInput, match=r"^line 1: the template "):
        Templates().render(template, FIELDS, "line 1")


def test_a_pattern_that_would_never_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt2cli.evaluation.bounded_patterns.MAX_SECONDS", 0.1)
    with pytest.raises(BadInput, match=r"pattern '.a.a..b' that takes more"):
        Templates().render("{{ ('a' * 60)|regex_replace('(a|a)+b', '') }}", FIELDS, "line 1")


def test_hostile_files_need_little_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in (LAUGHS, b"[" * 2000, b"a: " + b"&x " * 1000):
        with pytest.raises(BadInput):
            parse_yaml(data, "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from([
    "task", "dataset_path", "dataset_kwargs", "test_split", "validation_split", "fewshot_split", "output_type",
    "doc_to_text", "doc_to_target", "doc_to_choice", "metric_list", "metric", "aggregation", "filter_list", "filter",
    "name", "function", "fewshot_config", "samples", "data_files", "train", "num_fewshot", "repeats",
    "generation_kwargs", "description", "gen_prefix", "target_delimiter", "unsafe_code", "include", "json",
])
VALUES = st.recursive(SCALARS | NAMES, lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(NAMES | SCALARS, inner, max_size=4), max_leaves=12)
SOUND = {"task": "t", "dataset_path": "json", "dataset_kwargs": {"data_files": "x.jsonl"}, "test_split": "train",
         "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "label", "doc_to_choice": "c"}


@settings(max_examples=100, deadline=None)
@given(changes=st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_mapping_is_a_task_or_an_error(changes: dict) -> None:
    try:
        task = task_of_mapping(SOUND | changes, "t.yaml", "")
    except Gpt2Error as error:
        assert "t.yaml" in str(error)
    else:
        assert task.metrics and task.split in task.files


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60) | st.text("a:[]{}-&*!|>'\"#%@? \n\t1,<", max_size=60).map(str.encode))
def test_any_bytes_are_a_task_or_an_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    for name in (path, path.with_suffix(".jsonl")):
        name.write_bytes(data)
        with pytest.raises(Gpt2Error):
            load_task(str(name), UnicodeLoss())


@settings(max_examples=100, deadline=None)
@given(template=st.text("{}%()[]|~+*-/.,:'\" qcnd01azif", max_size=40))
def test_any_template_is_filled_or_an_error(template: str) -> None:
    try:
        assert isinstance(Templates().render(template, FIELDS, "line 1"), str)
    except Gpt2Error as error:
        assert str(error).startswith("line 1: ")
