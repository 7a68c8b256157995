#!/usr/bin/env python3
"""A web for the demo's crawler: Python's own documentation server, and a Reddit-style dump of links into it.

    python demo/documentation_site.py --dump RS_2017-10.zst [--port N] [--port-file FILE] -- COMMAND...

starts the server of the pydoc module on 127.0.0.1, writes the dump (its bytes depend on the port only), runs COMMAND
while the server is up, and ends with its exit status. Pages are the same each time: of objects that they show, the
addresses in memory are left out. The pages were written by the authors of Python; the posts
that link to them are made up here, with what real dumps have: low karma, reposts, self posts, dead links,
advertisements, posts that are too new, and a link to Wikipedia.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pydoc
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

HOST = "127.0.0.1"
PORT = 17017
CLOSED_PORT = 9
OCTOBER_2017 = 1_506_816_000
JANUARY_2018 = 1_514_764_800
WINDOW_LOG = 31
ADDRESS = re.compile(r"(?: |&nbsp;)at(?: |&nbsp;)0x[0-9a-fA-F]{6,}")
MODULES = """
argparse base64 bisect calendar cmd code codeop colorsys compileall copyreg csv difflib dis doctest filecmp fileinput
fnmatch fractions ftplib getopt getpass gettext glob graphlib gzip hashlib heapq hmac imaplib keyword linecache
math mimetypes modulefinder netrc numbers optparse pdb pickletools pkgutil plistlib poplib pprint profile
pstats py_compile pyclbr queue quopri random reprlib rlcompleter sched secrets shelve shlex smtplib statistics string
stringprep symtable sysconfig tabnanny tarfile tempfile textwrap timeit token tokenize trace urllib.robotparser uuid
venv wave webbrowser wsgiref zipapp zipfile
""".split()  # noqa: SIM905
"""Modules whose pages extract quickly, and which the server survives reloading (pydoc reloads what it documents)."""


def page_paths() -> list[str]:
    """Return the paths of the pages that are linked to, in a fixed order."""
    topics = [f"/topic?key={name}" for name in (*sorted(pydoc.Helper.topics), *sorted(pydoc.Helper.keywords))]
    modules = [f"/{name}.html" for name in MODULES]
    return sorted(topics + modules, key=lambda path: hashlib.sha256(path.encode()).digest())


def submissions(site: str) -> Iterator[dict[str, Any]]:
    """Yield the posts of the dump, oldest first, for pages under `site` (http://HOST:PORT)."""
    for number, path in enumerate(page_paths()):
        url = site + path
        draw = hashlib.sha256(f"karma {path}".encode()).digest()
        reposted = number % 5 == 1
        yield _post(url, 3 + draw[0] if number % 12 or reposted else draw[0] % 3)
        if reposted:
            # a repost; the key must see through the fragment, the tracking parameter and the HTML escape
            joint = "&amp;" if "?" in path else "?"
            yield _post(url + ("#here" if number % 2 else f"{joint}utm_source=reddit"), 5 + draw[1])
        if number % 9 == 2:
            yield _post(f"https://www.reddit.com/r/Python/comments/{number:x}/ask/", 40, is_self=True,
                        domain="self.Python")
    yield _post("https://en.wikipedia.org/wiki/Python_(programming_language)", 977)
    yield _post("https://i.imgur.com/python.jpg", 2048)
    yield _post(f"{site}/logo.png", 12)
    yield _post(f"http://{HOST}:{CLOSED_PORT}/gone.html", 88)
    yield _post(f"{site}/no_such_module_2017.html", 64)
    yield _post(f"{site}/pydoc_data/_pydoc.css", 7)
    yield _post("ftp://ftp.python.org/pub/", 9)
    yield _post(f"{site}/shlex.html?from=null", None)
    yield {**_post(f"{site}/wave.html?from=ad", 30), "promoted": True, "subreddit": None}
    yield _post(f"{site}/uuid.html?from=2018", 50, created_utc=JANUARY_2018)


def _post(url: str, score: int | None, **extra: Any) -> dict[str, Any]:
    digest = hashlib.sha256(url.partition("/topic")[2].encode() + url[-20:].encode()).hexdigest()
    fields: dict[str, Any] = {
        "created_utc": OCTOBER_2017, "domain": url.split("/")[2], "id": digest[:6], "is_self": False, "over_18": False,
        "score": score, "subreddit": "Python", "title": url.rsplit("/", 1)[-1], "url": url,
    }
    return {**fields, **extra}


def page(url: str, content_type: str = "text/html") -> str:
    """Return pydoc's page, less addresses in memory: with them no two crawls, vocabularies and models were alike."""
    return ADDRESS.sub("", pydoc._url_handler(url, content_type))  # type: ignore[attr-defined]


def write_dump(path: Path, site: str) -> int:
    """Write the dump as Reddit's come: NDJSON in one zstd frame with a 2 GiB window. Return the number of posts."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=WINDOW_LOG, write_content_size=False)
    lines = []
    for number, post in enumerate(submissions(site)):
        if post["created_utc"] == OCTOBER_2017:
            post["created_utc"] += 7200 * number
        lines.append(json.dumps(post, sort_keys=True).encode() + b"\n")
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        with compressor.stream_writer(file, closefd=False) as stream:
            stream.write(b"".join(lines))
    os.replace(temporary, path)
    return len(lines)


def free_port(wanted: int) -> int:
    """Return `wanted` when nothing listens there, else a port that the system picks."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("documentation_site: no free port on the loopback interface")


def run(command: list[str]) -> int:
    """Run `command`, passing on SIGTERM and outliving Ctrl-C; return its exit status as a shell would."""
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGINT, lambda *_: None)  # the terminal has told the command itself
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve Python's documentation while a command runs.")
    parser.add_argument("--dump", type=Path, required=True, help="where to write the Reddit-style dump")
    parser.add_argument("--port", type=int, default=PORT, help="wanted port; another one is taken if it is in use")
    parser.add_argument("--port-file", type=Path, help="write the port here")
    parser.add_argument("command", nargs="+", help="after --: what to run while the server is up")
    options = parser.parse_args()
    server = pydoc._start_server(page, HOST, free_port(options.port))  # type: ignore[attr-defined]
    if server.error:
        raise SystemExit(f"documentation_site: {server.error}")
    try:
        options.dump.parent.mkdir(parents=True, exist_ok=True)
        posts = write_dump(options.dump, f"http://{HOST}:{server.port}")
        if options.port_file:
            options.port_file.write_text(f"{server.port}\n")
        print(f"documentation_site: {len(page_paths())} pages at http://{HOST}:{server.port}/, "
              f"{posts} posts in {options.dump}", file=sys.stderr)
        return run(options.command)
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
