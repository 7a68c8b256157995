"""The makefile on the manual's page, run: a crawl in shares by make -j has the bytes of one run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manpages
import pytest
from webtext.local_site import serving
from webtext.test_whole_crawl import dumps

LOCAL = "--allow-net 127.0.0.0/8 --allow-net ::1/128 --host-gap 0"


def shown_makefile() -> str:
    section = manpages.sections(manpages.MAN / "man1" / "gpt2-webtext-scrape.1")["MANY MACHINES"]
    block = next(block for block in re.findall(r"^\.EX\n(.*?)^\.EE", section, re.MULTILINE | re.DOTALL)
                 if "SHELL := bash" in block)
    return manpages.plain(block)


@pytest.mark.slow
def test_the_makefile_of_the_manual_gives_the_bytes_of_one_run(bash: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(shown_makefile())
    with serving() as site:
        for number, path in enumerate(dumps(tmp_path, site, 12), 1):
            Path(path).rename(tmp_path / f"RS_{number}.zst")
        whole = bash(f"gpt2 webtext-scrape RS_1.zst RS_2.zst {LOCAL} -j 1 -o whole.jsonl.zst", tmp_path)
        assert whole.returncode == 0, whole.stderr.decode()
        made = bash(f"make -j2 N=2 FETCH='{LOCAL}'", tmp_path)
        assert made.returncode == 0, made.stderr.decode()
        again = bash("make -j2 N=2", tmp_path)
        assert b"up to date" in again.stdout
    assert (tmp_path / "crawl.jsonl.zst").read_bytes() == (tmp_path / "whole.jsonl.zst").read_bytes()
    assert len({path.name for path in tmp_path.glob("share*")}) == 2
