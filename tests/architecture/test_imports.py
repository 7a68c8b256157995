"""The import law: data flows one way and imports flow one way, `cli -> subjects -> model -> records`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gpt2cli"
GROUND = {"errors", "reporter", "sizes", "records", ""}  # "" is gpt2cli itself: its version
ARROWS = {
    "errors": set(), "reporter": set(), "sizes": {"errors"}, "": set(), "records": {"errors", "reporter", "sizes", ""},
    "model": GROUND,
    "tokens": GROUND,
    "webtext": GROUND | {"tokens"},
    "scaling": GROUND,
    "sampling": GROUND | {"tokens", "model"},
    "training": GROUND | {"tokens", "model"},
    "evaluation": GROUND | {"tokens", "model", "sampling"},
    "quality": GROUND | {"tokens", "sampling", "evaluation"},
    "detection": GROUND | {"tokens", "model", "sampling", "evaluation"},
    "overlap": GROUND | {"tokens"},
    "interchange": GROUND | {"tokens", "model"},
    "doctor": GROUND | {"tokens", "model", "training"},
    "cli": GROUND | {"tokens", "model", "webtext", "scaling", "sampling", "training", "evaluation", "detection",
                   "quality", "overlap", "interchange", "doctor"},
    "__main__": {"cli"},
}
"""What each part may import besides itself."""
NO_TORCH = ("webtext", "scaling", "overlap")
ONLY_IN_CLI = {"click", "rich"}
LIGHT = {"click", "gpt2cli.cli", "gpt2cli.errors", "gpt2cli.sizes", "gpt2cli"}
"""What a module of the cli may import at its top, besides the standard library."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """Return the package or module directly below gpt2cli that a file belongs to; "" for gpt2cli itself."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(tree: ast.AST, path: Path) -> Iterator[str]:
    """Yield the dotted names that a piece of syntax imports, relative ones resolved, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["gpt2cli", *path.relative_to(PACKAGE).parts[:-1]]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def targets(names: Iterator[str]) -> set[str]:
    """Return the parts of gpt2cli among dotted names."""
    found = set()
    for name in names:
        words = name.split(".")
        if words[0] == "gpt2cli":
            below = words[1] if len(words) > 1 else ""
            inside = (PACKAGE / below).is_dir() or (PACKAGE / f"{below}.py").exists()
            found.add(below if inside else "")
    return found


def identity(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_arrows(path: Path) -> None:
    own = part(path)
    assert own in ARROWS, f"gpt2cli/{own} has no place in the import law"
    forbidden = targets(imports(parse(path), path)) - ARROWS[own] - {own}
    assert forbidden == set()


@pytest.mark.parametrize("path", MODULES, ids=identity)
def test_only_the_cli_knows_a_terminal(path: Path) -> None:
    if part(path) == "cli":
        return
    tree = parse(path)
    assert {name.split(".")[0] for name in imports(tree, path)} & ONLY_IN_CLI == set()
    calls = [node.lineno for node in ast.walk(tree)
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "input"}]
    assert calls == [], f"print or input in lines {calls}"
    writes = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute)
              and node.attr == "stderr" and isinstance(node.value, ast.Name) and node.value.id == "sys"]
    assert writes == [], f"sys.stderr in lines {writes}; take a Reporter"


@pytest.mark.parametrize("path", [path for path in MODULES if part(path) == "cli"], ids=identity)
def test_cli_modules_are_light_at_the_top(path: Path) -> None:
    top = [node for node in parse(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in top:
        for name in imports(ast.Module([node], []), path):
            first = name.split(".")[0]
            light = first in sys.stdlib_module_names or any(name == one or name.startswith(f"{one}.") for one in
                                                            LIGHT - {"gpt2cli"}) or name in {"gpt2cli", "gpt2cli.cli"}
            assert light, f"line {node.lineno} imports {name} at the top; do it inside the function"


def reachable(start: Path) -> set[Path]:
    """Return the modules of gpt2cli that a module imports, and those that they import, to the end."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports(parse(path), path):
            words = name.split(".")
            if words[0] != "gpt2cli":
                continue
            for length in range(1, len(words) + 1):
                base = ROOT.joinpath(*words[:length])
                waiting += [found for found in (base.with_suffix(".py"), base / "__init__.py") if found.exists()]
    return seen


@pytest.mark.parametrize("name", NO_TORCH)
def test_no_torch_however_far_one_follows(name: str) -> None:
    modules = [path for path in MODULES if part(path) == name]
    assert modules
    for start in modules:
        for path in reachable(start):
            names = {found.split(".")[0] for found in imports(parse(path), path)}
            assert not names & {"torch", "transformers"}, f"{identity(start)} reaches torch by {identity(path)}"


def test_the_parser_sees_every_form_of_import() -> None:
    source = "import a.b as c\nfrom d import e, f\nfrom . import g\nfrom ..h import i\ndef k():\n    import l\n"
    found = set(imports(ast.parse(source), PACKAGE / "model" / "x.py"))
    assert found == {"a.b", "d.e", "d.f", "gpt2cli.model.g", "gpt2cli.h.i", "l"}


def test_reachability_follows_imports() -> None:
    found = {identity(path) for path in reachable(PACKAGE / "__main__.py")}
    assert {"gpt2cli/cli/main.py", "gpt2cli/errors.py", "gpt2cli/cli/signals.py"} <= found
