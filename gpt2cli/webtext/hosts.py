"""Hosts whose pages never enter, and what of a URL's path is no page: named profiles, kept as data.

A profile is data/hosts-NAME.txt: parts of domains, each part headed by the reason that a rejected link is given, and
file name endings, which begin with a dot.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.streams import display_name, open_input, read_lines

PROFILES = ("webtext", "openwebtext", "none")
"""Names of the profiles; each leaves out Reddit and Wikipedia."""


@dataclass(frozen=True)
class HostProfile:
    """Reasons by domain (its subdomains are meant too) and by file name ending (with its dot), all in lower case."""

    domains: Mapping[str, str]
    endings: Mapping[str, str]

    def exclusion(self, host: str) -> str | None:
        """Return why pages of `host` (lower case) are left out; None to keep them."""
        name = host.rstrip(".")
        while True:
            reason = self.domains.get(name)
            if reason is not None or "." not in name:
                return reason
            name = name.partition(".")[2]

    def no_page(self, path: str) -> str | None:
        """Return why what a URL path names is no page, such as an image; None when it may be one."""
        name = path.rpartition("/")[2]
        return self.endings.get(name[name.rfind(".") :].lower()) if "." in name else None


@functools.cache
def host_profile(name: str) -> HostProfile:
    """Return one of PROFILES; UsageFault for another name."""
    if name not in PROFILES:
        raise UsageFault(f"there is no host profile {name!r}; choose {', '.join(PROFILES)}")
    return parse_profile(packaged_lines(f"hosts-{name}.txt"))


def parse_profile(lines: Iterable[str]) -> HostProfile:
    """Return the profile that lines without comments are."""
    domains: dict[str, str] = {}
    endings: dict[str, str] = {}
    reason = ""
    for line in lines:
        if line.startswith("["):
            reason = line.strip("[]")
        else:
            (endings if line.startswith(".") else domains)[line] = reason
    return HostProfile(MappingProxyType(domains), MappingProxyType(endings))


def packaged_lines(name: str) -> list[str]:
    """Return the lines of a list in this package's data that are neither blank nor comments."""
    text = (resources.files("gpt2cli.webtext") / "data" / name).read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line and not line.startswith("#")]


def read_names(path: str | os.PathLike[str], prefix: str = "", phrases: bool = False) -> frozenset[str]:
    """Return the names of a list, one a line, in lower case; `#` begins a comment, `prefix` before a name is dropped.

    phrases: a line may be several words; they are parted by one space then. Raises BadInput for a line that is more
    than a name, or no UTF-8.
    """
    names = set()
    place = display_name(path)
    with open_input(path) as stream:
        for number, line in enumerate(read_lines(stream, place), 1):
            try:
                name = line.decode("utf-8").partition("#")[0].strip().lower()
            except UnicodeDecodeError:
                raise BadInput(f"{place} line {number} is not UTF-8") from None
            if phrases:
                names.add(" ".join(name.split()))
                continue
            name = name.removeprefix("/").removeprefix(prefix).strip("/")
            if any(character.isspace() or character == "/" for character in name):
                raise BadInput(f"{place} line {number} is more than one name: {name[:60]!r}")
            if name:
                names.add(name)
    return frozenset(names - {""})


def exclusion(host: str, profile: str) -> str | None:
    """Return why pages of `host` (lower case) are left out by a profile; None to keep them."""
    return host_profile(profile).exclusion(host)
