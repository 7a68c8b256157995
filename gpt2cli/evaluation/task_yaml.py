"""YAML of task files to plain values: the safe loader, no tags, no repeated keys, and a bound on all that aliases make.

Nothing named by the file is run or imported: `!function`, as every other tag, is refused. `include` is followed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import yaml

from gpt2cli.errors import BadInput
from gpt2cli.records.streams import open_input

MAX_BYTES = 256 << 10
"""Largest task file."""
MAX_NODES = 100_000
"""Most values in a file, each counted as often as aliases repeat it."""
MAX_DEPTH = 32
MAX_INCLUDES = 16
_PLAIN = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The safe loader; dates stay text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_PLAIN}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_task_yaml(path: str) -> tuple[dict[str, Any], str]:
    """Return a task file's mapping, what it includes merged below its own keys, and one sha256 over all its files.

    Raises BadInput for what is no mapping of plain values, holds a tag such as !function, or is too large.
    """
    digest = hashlib.sha256()
    return _read(path, (), digest, [0]), digest.hexdigest()


def _read(path: str, above: tuple[Path, ...], digest: Any, count: list[int]) -> dict[str, Any]:
    place = Path(path)
    if place.resolve() in above:
        raise BadInput(f"{path} includes itself")
    count[0] += 1
    if count[0] > MAX_INCLUDES:
        raise BadInput(f"{path}: more than {MAX_INCLUDES} task files include each other")
    with open_input(path) as stream:
        data = stream.read(MAX_BYTES + 1)
    digest.update(hashlib.sha256(data).digest())
    own = parse_yaml(data, path)
    included = own.pop("include", [])
    merged: dict[str, Any] = {}
    for name in included if isinstance(included, list) else [included]:
        if not isinstance(name, str):
            raise BadInput(f"{path}: include names task files, not {type(name).__name__}")
        inner = _read(str(place.parent / name), (*above, place.resolve()), digest, count)
        inner.pop("task_list", None)
        merged |= inner
    return merged | own


def parse_yaml(data: bytes, where: str) -> dict[str, Any]:
    """Return the mapping that YAML bytes are: strings, numbers, booleans, null, lists and mappings with string keys.

    Raises BadInput for anything else; its memory is bounded by the file's size whatever the file says.
    """
    if len(data) > MAX_BYTES:
        raise BadInput(f"{where} is larger than {MAX_BYTES} bytes, too large for a task file")
    try:
        loader = _Loader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            raise BadInput(f"{where} is empty; a task file is a YAML mapping")
        _Check(where).size(node, 0)
        value = loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput(f"{where} is not YAML{line}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadInput(f"{where} is nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise BadInput(f"{where} holds a value that YAML does not have: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{where} is no YAML mapping but {type(value).__name__}")
    _check_values(value, where)
    return value


class _Check:
    """Sizes of nodes, each computed once however often aliases repeat it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def size(self, node: yaml.Node, depth: int) -> int:
        if id(node) in self._open:
            raise BadInput(f"{self._where} holds an alias inside of what it names")
        if id(node) in self._sizes:
            return self._sizes[id(node)]
        line = node.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise BadInput(f"{self._where} is nested more than {MAX_DEPTH} deep at line {line}")
        if node.tag == "!function":
            raise BadInput(f"{self._where} line {line} asks for Python code (!function {str(node.value)[:60]}), which "
                           "is never run from a task file; write a template, or prepare the data beforehand")
        if not node.tag.startswith(_PLAIN):
            raise BadInput(f"{self._where} line {line} has the tag {node.tag[:40]}; a task file holds plain values")
        self._open.add(id(node))
        total = 1 + sum(self.size(child, depth + 1) for child in self._children(node))
        self._open.remove(id(node))
        if total > MAX_NODES:
            raise BadInput(f"{self._where} holds more than {MAX_NODES:,} values, counting what its aliases repeat")
        self._sizes[id(node)] = total
        return total

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.MappingNode):
            return []
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise BadInput(f"{self._where} line {node.start_mark.line + 1}: the key {twice[:60]!r} stands twice")
        return [part for pair in node.value for part in pair]


def _check_values(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, (str, int, float, bool)):
                raise BadInput(f"{where}: a key of a mapping is {type(key).__name__}; names are text")
            _check_values(inner, where)
    elif isinstance(value, list):
        for inner in value:
            _check_values(inner, where)
    elif not isinstance(value, (str, int, float, bool, type(None))):
        raise BadInput(f"{where}: {value!s:.40} is {type(value).__name__}; put it in quotes to make it text")
