"""The work of the whole crawl in tasks, each from finished files to files of its own, on this machine or another.

links by input, then united; pages by share of the hosts; documents and their filtering by part of a share; duplicates
by part, by range of band keys, all together, and by share. What a share is does not change what comes out in the end.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, encode_record, read_records
from gpt2cli.records.streams import open_input, read_lines
from gpt2cli.records.temporaries import temporary_directory
from gpt2cli.webtext.dedup import DedupConfig
from gpt2cli.webtext.dedup_space import temporary_space
from gpt2cli.webtext.dedup_stages import find_matches, list_duplicates, write_parts
from gpt2cli.webtext.document_lines import input_lines
from gpt2cli.webtext.external_sort import read_rows
from gpt2cli.webtext.extract import ExtractConfig, extract_documents
from gpt2cli.webtext.fetch import fetch_pages
from gpt2cli.webtext.fetch_config import FetchConfig
from gpt2cli.webtext.filter_documents import filtered_lines
from gpt2cli.webtext.finished_tasks import Desk
from gpt2cli.webtext.judge_links import ENTRY, LinkConfig, links_of_share
from gpt2cli.webtext.links import judged_links, united_links
from gpt2cli.webtext.outcomes import OK
from gpt2cli.webtext.rule_set import RuleSet
from gpt2cli.webtext.shards import Share
from gpt2cli.webtext.sign_documents import sign
from gpt2cli.webtext.unique_links import UniqueLinks

ROWS = ".rows"
_ROWS_AT_ONCE = 1 << 15


def judge_input(desk: Desk, path: str, config: LinkConfig, jobs: int) -> None:
    """Write the links of one input that pass, with their repetitions, and a row of ENTRY for each."""
    with desk.binary(ROWS) as rows, desk.records() as sink:  # the records are whole first, and output number one
        for judged in judged_links([path], config, desk.tally, desk.reporter, jobs):
            rows.write(judged.entries.view(np.uint8).data)
            for line in judged.records:
                sink.write_line(line)


def unite_inputs(desk: Desk, inputs: tuple[tuple[Path, Path], ...], config: LinkConfig, memory: int) -> None:
    """Write the links of all inputs (records and rows of each) without repetitions, in their order."""
    with temporary_directory("gpt2-links") as directory, UniqueLinks(
        directory, config.min_karma if config.sum_karma else None, memory
    ) as unique, desk.records() as sink:
        for records, rows in inputs:
            with open_input(records) as stream:
                lines = (line + b"\n" for line in read_lines(stream, str(records)))
                for block in read_rows(rows, ENTRY, _ROWS_AT_ONCE):
                    taken = list(itertools.islice(lines, len(block)))
                    if len(taken) < len(block):
                        raise BadInput(f"{records} and {rows.name} don't belong together; remove both")
                    unique.add(block.copy(), taken)
        for line in united_links(unique, desk.tally):
            sink.write_line(line)


def fetch_share(desk: Desk, links: Path, share: Share, config: FetchConfig, part_size: int) -> None:
    """Write the pages of a share of the hosts, in the order of its links, as parts of `part_size`, at least one."""
    records = read_records(links, ReadTally(), kinds=("gpt2.link",))
    pages = fetch_pages(links_of_share(records, share), config, desk.tally, desk.reporter)
    with contextlib.closing(pages):  # type: ignore[type-var]  # a generator
        lines = (encode_record("gpt2.page", page) for page in pages)
        for part in itertools.count():
            first = list(itertools.islice(lines, 1))
            if part and not first:
                break
            with desk.records(f"-{part:05}") as sink:
                for line in itertools.chain(first, itertools.islice(lines, part_size - 1)):
                    sink.write_line(line)


def extract_part(desk: Desk, pages: Path, config: ExtractConfig) -> None:
    """Write the documents of the pages that were fetched."""
    fetched = (page for page in _fields(pages, "gpt2.page") if page["outcome"] == OK)
    documents = extract_documents(fetched, config, desk.tally, desk.reporter)
    with contextlib.closing(documents), desk.records() as sink:  # type: ignore[type-var]  # a generator
        for fields in documents:
            sink.write("gpt2.document", fields)


def filter_part(desk: Desk, documents: Path, rules: RuleSet, jobs: int) -> None:
    """Write the documents that pass the rules."""
    with desk.records() as sink:
        for line in filtered_lines([documents], rules, desk.tally, desk.reporter, jobs):
            sink.write_line(line)


def sign_part(desk: Desk, documents: Path, config: DedupConfig) -> None:
    """Write the signature file of the documents."""
    with temporary_space() as scratch, desk.binary(".signatures") as file:
        sign(input_lines(documents, desk.reporter), str(documents), file, config.profile, workers=config.jobs,
             memory=config.memory, scratch=scratch, reporter=desk.reporter)


def match_share(desk: Desk, signatures: tuple[Path, ...], share: tuple[int, int], memory: int) -> None:
    """Write the pairs that match in one range of the band keys of all signature files."""
    with desk.records() as sink:
        find_matches(signatures, share, sink, memory, desk.reporter)


def find_duplicates(desk: Desk, signatures: tuple[Path, ...], matches: tuple[Path, ...], memory: int) -> None:
    """Write which documents are to be dropped; without matches they are looked for here."""
    with desk.records() as sink:
        list_duplicates(signatures, matches, sink, memory, desk.reporter)


def keep_survivors(desk: Desk, documents: tuple[Path, ...], first: int, duplicates: Path) -> None:
    """Write those documents of consecutive parts, the first of them number `first` (from 1), that are to stay."""
    with desk.records() as sink:
        write_parts(documents, duplicates, first, sink, desk.tally, desk.reporter)


def _fields(path: Path, kind: str) -> Iterable[Record]:
    for record in read_records(path, ReadTally(), kinds=(kind,)):
        yield {name: value for name, value in record.items() if name != "schema"}
