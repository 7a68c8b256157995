"""The installation: versions, what is missing of what the package asks for, and the vocabulary that comes with it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

import gpt2cli
from gpt2cli.doctor.finding import Finding
from gpt2cli.errors import Gpt2Error
from gpt2cli.tokens.vocabulary import load_vocabulary

TOPIC = "software"
_FOR_TESTS = {"test", "demo", "fuzz"}
_SAMPLE = "Zwei Hübsche ☃ said: it's  fine\n"


def software() -> Iterator[Finding]:
    """Yield what is installed, the required packages first."""
    yield Finding(TOPIC, "gpt2cli", f"{gpt2cli.__version__} in {Path(gpt2cli.__file__).parent}")
    yield _on_path()
    yield Finding(TOPIC, "python", f"{platform.python_version()} ({platform.machine()} {platform.system()})")
    try:
        asked = metadata.requires("gpt2cli") or []
    except metadata.PackageNotFoundError:
        yield Finding(TOPIC, "packages", "gpt2cli itself is not installed, so what it asks for is not known", "note",
                      "pip install -e . in the checkout, or make setup")
    else:
        yield from packages(asked)
    yield _vocabulary()


def packages(requirements: Iterable[str]) -> Iterator[Finding]:
    """Yield what is found of requirements as a package's metadata has them: each needed one, and each extra in a row.

    The extras that only tests want are left out.
    """
    extras: dict[str, list[str]] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        extra = _extra_of(requirement)
        if extra is None:
            if requirement.marker is None or requirement.marker.evaluate():
                yield _needed(requirement)
        elif extra not in _FOR_TESTS:
            missing = extras.setdefault(extra, [])
            if _problem(requirement):
                missing.append(requirement.name)
    for extra, missing in sorted(extras.items()):
        if missing:
            yield Finding(TOPIC, f"extra {extra}", f"without {', '.join(missing)}", "note",
                          f"if you want it: pip install 'gpt2cli[{extra}]'")
        else:
            yield Finding(TOPIC, f"extra {extra}", "installed")


def _needed(requirement: Requirement) -> Finding:
    problem = _problem(requirement)
    if problem:
        return Finding(TOPIC, requirement.name, problem, "bad", f"pip install '{requirement}'")
    return Finding(TOPIC, requirement.name, metadata.version(requirement.name))


def _extra_of(requirement: Requirement) -> str | None:
    """Return the extra that a requirement belongs to, None for one that is always needed."""
    marker = requirement.marker
    if marker is None or "extra" not in str(marker):
        return None
    return str(marker).partition("extra ==")[2].strip().strip("\"'")


def _problem(requirement: Requirement) -> str:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "is not installed"
    allowed = requirement.specifier.contains(version, prereleases=True)
    return "" if allowed else f"{version} is installed, {requirement.specifier} needed"


def _on_path() -> Finding:
    """Return which program the shell would run as `gpt2`."""
    found = shutil.which("gpt2")
    ours = Path(sys.prefix) / "bin" / "gpt2"
    if found is None:
        return Finding(TOPIC, "gpt2 command", "not on PATH", "note", f"call it {ours}, or put {ours.parent} on PATH")
    if ours.exists() and not ours.samefile(found):
        return Finding(TOPIC, "gpt2 command", f"{found}, which is not of this installation ({ours})", "note",
                       f"put {ours.parent} first on PATH, unless this is meant")
    return Finding(TOPIC, "gpt2 command", found)


def _vocabulary() -> Finding:
    """Return whether the vocabulary that commands take by default is there and gives a text back."""
    from gpt2cli.tokens.encode import Encoder  # tiktoken takes its time

    try:
        vocabulary = load_vocabulary(None)
    except (Gpt2Error, OSError) as error:
        return Finding(TOPIC, "vocabulary", f"cannot be read: {error}", "bad",
                       "unset GPT2_VOCAB or name a sound one; if it is unset, install gpt2cli again")
    encoder = Encoder(vocabulary)
    if encoder.decode(encoder.encode(_SAMPLE)) != _SAMPLE.encode():
        return Finding(TOPIC, "vocabulary", "a text does not come back from its tokens", "bad", "install gpt2cli again")
    name = "GPT-2's own" if vocabulary.is_gpt2 else "$GPT2_VOCAB"
    return Finding(TOPIC, "vocabulary", f"{name}, {vocabulary.n_vocab:,} tokens, {vocabulary.sha256[:12]}")
