"""Every command has a page, every option is on it and no other, and every page renders without a warning."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import manpages
import pytest
import zstandard

from gpt2cli.cli.main import COMMANDS
from gpt2cli.records.schemas import SCHEMAS, schema_name

PAGES = manpages.pages()
ALWAYS = ["NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"]
COMMAND_SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]


def page_of(command: str) -> Path:
    return manpages.MAN / "man1" / f"gpt2-{command}.1"


def identity(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_a_page_with_every_section(command: str) -> None:
    found = list(manpages.sections(page_of(command)))
    assert [title for title in found if title in COMMAND_SECTIONS] == COMMAND_SECTIONS


@pytest.mark.parametrize("command", COMMANDS)
def test_options_on_the_page_are_the_options_of_the_command(command: str) -> None:
    documented, real = manpages.documented_options(page_of(command)), manpages.real_options(command)
    assert documented - real == set(), "on the page, but unknown to the command"
    assert real - documented == set(), "known to the command, but not on the page"


@pytest.mark.parametrize("command", COMMANDS)
def test_synopsis_names_the_command(command: str) -> None:
    synopsis = manpages.plain(manpages.sections(page_of(command))["SYNOPSIS"])
    assert re.search(rf"\bgpt2 {command}\b", synopsis), synopsis


@pytest.mark.parametrize("command", COMMANDS)
def test_page_lists_exit_statuses(command: str) -> None:
    section = manpages.plain(manpages.sections(page_of(command))["EXIT STATUS"])
    statuses = set(re.findall(r"(?<![\w.])\d+(?!\w)", section))
    assert {"0", "2"} <= statuses, "0 and 2 belong to every command"


def test_overview_lists_every_command_and_status() -> None:
    overview = manpages.MAN / "man1" / "gpt2.1"
    listed = re.findall(r"^gpt2-([\w-]+)\(1\)$", "\n".join(manpages.tags(overview.read_text())), re.MULTILINE)
    assert listed == list(COMMANDS)
    text = manpages.plain(overview.read_text())
    for name, (_, _, line) in COMMANDS.items():
        assert line in text, f"the overview says something else of {name} than the command table"
    statuses = manpages.tags(manpages.sections(overview)["EXIT STATUS"])
    assert statuses == ["0", "1", "2", "65", "74", "75", "128+n"]


def test_no_page_without_its_command() -> None:
    named = {page.stem.removeprefix("gpt2-") for page in PAGES if page.suffix == ".1"} - {"gpt2"}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", ["gpt2-records.5", "gpt2-shard.5", "gpt2-checkpoint.5", "gpt2-pipeline.7"])
def test_format_and_overview_pages_exist(name: str) -> None:
    assert list(manpages.MAN.glob(f"man?/{name}"))


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_page_has_the_usual_sections_and_title(page: Path) -> None:
    found = list(manpages.sections(page))
    assert [title for title in found if title in ALWAYS] == [title for title in ALWAYS if title in found]
    assert set(ALWAYS) <= set(found)
    title = manpages.plain(page.read_text().splitlines()[0])
    assert title.startswith(f".TH {page.stem.upper()} {page.suffix[1:]} ")
    assert manpages.plain(manpages.sections(page)["NAME"]).strip().startswith(f"{page.stem} - ")


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_page_renders_without_warnings(page: Path) -> None:
    environment = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANROFFOPT": ""}
    if shutil.which("groff"):
        command = ["groff", "-man", "-ww", "-Tutf8", "-K", "utf8", "-P-c", str(page)]
    elif shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "warning", str(page)]
    else:
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", str(page)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.stderr == ""
    assert page.stem.upper() in result.stdout or command[0] == "mandoc"


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_references_lead_to_pages(page: Path) -> None:
    text = "\n".join(manpages.plain(line) for line in page.read_text().splitlines())
    ours = {(name, section) for name, section in re.findall(r"\b(gpt2[\w-]*) ?\((\d)\)", text)}
    assert ours, "a page refers to its neighbours"
    missing = [f"{name}({section})" for name, section in sorted(ours)
               if not (manpages.MAN / f"man{section}" / f"{name}.{section}").exists()]
    assert missing == []


def record_fields() -> dict[str, set[str]]:
    """Return the fields that gpt2-records(5) describes, by schema."""
    text = (manpages.MAN / "man5" / "gpt2-records.5").read_text()
    parts = re.split(r"^\.SS (gpt2\.[\w-]+/\d+)$", text, flags=re.MULTILINE)
    bodies = [re.split(r"^\.S[HS] ", body, flags=re.M)[0] for body in parts[2::2]]
    return {schema: {name for tag in manpages.tags(body) for name in tag.split(", ")}
            for schema, body in zip(parts[1::2], bodies, strict=True)}


def test_every_schema_and_required_field_is_described() -> None:
    described = record_fields()
    assert set(described) == {schema_name(kind) for kind in SCHEMAS}
    for kind, (_, required) in SCHEMAS.items():
        assert set(required) - described[schema_name(kind)] == set(), f"required in {kind}, not on the page"


def test_required_marks_agree_with_the_schemas() -> None:
    text = (manpages.MAN / "man5" / "gpt2-records.5").read_text()
    for kind, (_, required) in SCHEMAS.items():
        body = re.split(r"^\.S[HS] ", text.split(f".SS {schema_name(kind)}\n")[1], flags=re.M)[0]
        marked = set()
        for tag, first in re.findall(r"^\.TP\n([^\n]*)\n([^\n]*)", body, flags=re.M):
            if first.startswith("required"):
                marked |= set(manpages.tags(f".TP\n{tag}\n")[0].split(", "))
        assert marked == set(required), f"the page and the schema differ on what every {kind} has"


@pytest.mark.slow
def test_records_that_commands_write_hold_only_described_fields(scratch: Path, gpt2) -> None:
    described = record_fields()
    gpt2("eval-ppl", "runs/tiny", "plays/macbeth.txt", "-o", "evaluation.jsonl", cwd=scratch, check=True)
    options = ("--prompt", "A", "--max-tokens", 4, "--json", "-o", "sample.jsonl")
    gpt2("sample", "runs/tiny", *options, cwd=scratch, check=True)
    (scratch / "verify.jsonl").write_bytes(gpt2("verify", "shards", cwd=scratch, check=True).stdout)
    decompressed = zstandard.ZstdDecompressor().decompressobj().decompress((scratch / "docs.jsonl.zst").read_bytes())
    (scratch / "docs.jsonl").write_bytes(decompressed)
    gpt2("fit-scaling", "metrics.jsonl", "-o", "fit.jsonl", cwd=scratch, check=True)
    strange: dict[str, set[str]] = {}
    seen = set()
    for path in [*scratch.glob("*.jsonl"), *scratch.glob("runs/tiny/*.jsonl"), scratch / "runs/tiny/run.json"]:
        text = path.read_text()
        for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
            record = json.loads(line)
            seen.add(record["schema"])
            unknown = set(record) - described[record["schema"]] - {"schema"}
            if unknown:
                strange.setdefault(record["schema"], set()).update(unknown)
    assert strange == {}, "fields that gpt2-records(5) does not describe"
    assert {"gpt2.run/1", "gpt2.step/1", "gpt2.eval/1", "gpt2.perf/1", "gpt2.sample/1", "gpt2.fit/1",
            "gpt2.verify/1", "gpt2.end/1", "gpt2.document/1"} <= seen
