"""Nothing that runs foreign data: read from the syntax tree, so that no spelling slips by a grep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted([*(ROOT / "gpt2cli").rglob("*.py"), *(ROOT / "demo").glob("*.py"), ROOT / "bin" / "gpt2"])
MODULES = {"pickle", "cPickle", "_pickle", "pickletools", "dill", "cloudpickle", "joblib", "marshal", "shelve", "dbm",
           "xml.sax", "xml.dom", "plistlib", "runpy", "imp", "code", "codeop", "pty", "telnetlib", "torch.package",
           "torch.jit", "multiprocessing.reduction", "logging.config"}
"""Of multiprocessing no more than this: its pipes pickle, between processes of our own that are born of one another."""
BUILTINS = {"eval", "exec", "compile", "__import__"}
ANYWHERE = {"eval", "exec", "__import__", "execfile"}
"""Not even named: `run = eval` is a call to come. (`compile` is also what a field of ours is called.)"""
CALLS = {"torch.load", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.safe_load",
         "asyncio.create_subprocess_shell", "shutil.unpack_archive", "builtins.eval", "builtins.exec",
         "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp",
         "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "numpy.load", "np.load", "random.seed",
         "np.random.seed", "numpy.random.seed", "torch.save"}
METHODS = {"extractall", "to_pickle", "read_pickle", "tofile", "enable_load_extension", "from_code", "load_module"}
KEYWORDS = {"shell": True, "allow_pickle": True, "trust_remote_code": True}
IMPORTERS = {"gpt2cli/cli/main.py": 1, "gpt2cli/cli/environment.py": 1}
"""Who imports by a name that is computed, and how often: the table of commands."""
PICKLE_READER = "gpt2cli/interchange/pickled_tensors.py"  # of `gpt2 import`, behind a flag: the one place, by one call


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` for an attribute chain, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def offences(source: str) -> Iterator[str]:
    """Yield "line N: what" for every forbidden thing in Python source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {what}" for what in call_offences(node))
            continue
        elif isinstance(node, ast.Name) and node.id in ANYWHERE:
            yield f"line {node.lineno}: the name {node.id}"
            continue
        else:
            continue
        yield from (f"line {node.lineno}: import {name}" for name in names
                    if name in MODULES or name.split(".")[0] in MODULES or name in CALLS)


def call_offences(node: ast.Call) -> Iterator[str]:
    """Yield what is wrong with one call."""
    name = dotted(node.func)
    if name in BUILTINS or name in CALLS:
        yield f"{name}()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield f".{node.func.attr}()"
    for keyword in node.keywords:
        if keyword.arg in KEYWORDS and isinstance(keyword.value, ast.Constant):
            if keyword.value.value is KEYWORDS[keyword.arg]:
                yield f"{keyword.arg}={keyword.value.value}"
        elif keyword.arg in {"shell", "allow_pickle"}:
            yield f"{keyword.arg}= something that is not a constant"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_is_read_in_one_place_by_the_safe_loader(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    names = {dotted(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    loaders = {name for name in names if name.startswith("yaml.") and name.endswith("Loader")}
    assert loaders <= {"yaml.SafeLoader"}
    assert ("import yaml" in source) == (path.name == "task_yaml.py") and "from yaml" not in source


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_runs_no_foreign_data(path: Path) -> None:
    found = list(offences(path.read_text(encoding="utf-8")))
    if str(path.relative_to(ROOT)) == PICKLE_READER:
        assert [what.split(": ")[1] for what in found] == ["torch.load()"]
    else:
        assert found == []


def test_what_is_imported_is_written_down() -> None:
    found: dict[str, int] = {}
    for path in CODE:
        source = path.read_text(encoding="utf-8")
        if "import_module" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] == "import_module" and not all(
                    isinstance(one, ast.Constant) for one in node.args):
                found[str(path.relative_to(ROOT))] = found.get(str(path.relative_to(ROOT)), 0) + 1
    assert found == IMPORTERS


def test_the_one_pickle_is_read_by_the_restricted_loader() -> None:
    tree = ast.parse((ROOT / PICKLE_READER).read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and dotted(node.func) == "torch.load"]
    assert len(calls) == 1
    (restricted,) = [keyword.value for keyword in calls[0].keywords if keyword.arg == "weights_only"]
    assert isinstance(restricted, ast.Constant) and restricted.value is True


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "import a, marshal", "from torch import load", "eval('1')",
    "exec(x)", "torch.load(f)", "torch.load(f, weights_only=True)", "yaml.load(f)", "yaml.safe_load(f)", "np.load(f)",
    "subprocess.run(x, shell=True)", "subprocess.run(x, shell=flag)", "archive.extractall()", "__import__('os')",
    "f(allow_pickle=True)", "os.system('x')", "def f():\n    import dill\n",
    "from_pretrained(d, trust_remote_code=True)", "run = eval", "from xml import sax",
    "shutil.unpack_archive(f)", "database.enable_load_extension(True)", "import shelve", "import joblib",
    "from joblib import load", "import torch.package", "torch.jit.load(f)", "asyncio.create_subprocess_shell(x)",
    "yaml.unsafe_load(f)", "yaml.full_load(f)", "numpy.load(f, allow_pickle=flag)", "torch.save(x, f)", "import runpy",
    "frame.to_pickle(f)", "os.popen('x')", "builtins.eval('1')",
])
def test_each_of_these_would_be_seen(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize("source", [
    "import json", "model.eval()", "re.compile('x')", "subprocess.run(x, shell=False)", "load(f)", "np.save(f, x)",
])
def test_these_are_fine(source: str) -> None:
    assert list(offences(source)) == []


READS_ITSELF = {"gpt2cli/records/named_file.py", "gpt2cli/records/locks.py", "gpt2cli/doctor/disk.py",
                "gpt2cli/model/native_kernels.py", "gpt2cli/model/small_network.py"}
"""Those that make the readers, read a lock that they hold, a file of the moment, or sources of the package."""
_READERS = {"os.pread", "np.fromfile", "numpy.fromfile"}


@pytest.mark.parametrize("path", sorted((ROOT / "gpt2cli").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_read_by_what_names_them_in_errors(path: Path) -> None:
    """See gpt2cli/records/named_file.py."""
    if str(path.relative_to(ROOT)) in READS_ITSELF:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name, modes = dotted(node.func), [*node.args[1:2], *(word.value for word in node.keywords)]
            plain = name in ("open", "io.open") and any(isinstance(mode, ast.Constant) and mode.value == "rb"
                                                        for mode in modes)
            whole = isinstance(node.func, ast.Attribute) and node.func.attr == "read_bytes"
            assert not (plain or whole or name in _READERS), f"{path}:{node.lineno} reads a file unnamed in errors"
