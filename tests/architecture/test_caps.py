"""Small files, small functions, telling names; every public function says what it takes and gives."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools", "stuff"}
CODE = sorted([*(ROOT / "gpt2cli").rglob("*.py"), ROOT / "bin" / "gpt2"])
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py"))
DEMO = sorted((ROOT / "demo").glob("*.py"))
OVERRIDDEN = {"readinto", "write"}  # of io.RawIOBase, whose buffer types changed between Python versions

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def public_functions(tree: ast.Module) -> Iterator[tuple[str, FunctionNode]]:
    """Yield the functions, and methods of classes, whose names don't start with an underscore."""
    for node in tree.body:
        if isinstance(node, FunctionNode) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, FunctionNode) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


@pytest.mark.parametrize("path", [*CODE, *TESTS, *DEMO], ids=identity)
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{lines} lines; give one of its ideas a file of its own"


@pytest.mark.parametrize("path", [*CODE, *TESTS, *DEMO], ids=identity)
def test_functions_are_short(path: Path) -> None:
    long = [f"{node.name} ({node.end_lineno - node.lineno + 1})" for node in ast.walk(parse(path))
            if isinstance(node, FunctionNode) and node.end_lineno
            and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES]
    assert long == []


@pytest.mark.parametrize("path", [*CODE, *TESTS, *DEMO], ids=identity)
def test_names_say_something(path: Path) -> None:
    parts = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert parts & FORBIDDEN_NAMES == set()


@pytest.mark.parametrize("path", CODE, ids=identity)
def test_public_functions_are_annotated_and_described(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree), "a module says what it is for"
    for name, node in public_functions(tree):
        assert ast.get_docstring(node), f"{name} has no docstring"
        if node.name in OVERRIDDEN and "." in name:
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        bare = [argument.arg for argument in arguments
                if argument and argument.annotation is None and argument.arg not in {"self", "cls"}]
        assert bare == [], f"{name}: {bare} without annotation"
        assert node.returns is not None, f"{name} does not say what it returns"


@pytest.mark.parametrize("path", CODE, ids=identity)
def test_public_classes_are_described(path: Path) -> None:
    bare = [node.name for node in parse(path).body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)]
    assert bare == []


def test_every_package_of_code_has_its_tests() -> None:
    packages = {path.parent.name for path in (ROOT / "gpt2cli").glob("*/__init__.py")}
    without = sorted(name for name in packages if not list((ROOT / "tests" / name).glob("test_*.py")))
    assert without == [], "the tests mirror the package"
