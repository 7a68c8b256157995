"""What to say where memory, or the number of processes, ran out: with the options of that command which need less."""

from __future__ import annotations

from collections.abc import Sequence

CANNOT_LOAD = ("too little memory to load the libraries that it needs; free some, or raise the limit on it "
                "(ulimit -v) to 1 GB or more")
NEEDS_LESS = {
    "train": "a smaller --micro-batch or --size",
    "sample": "a smaller --batch, --beams or --num-samples",
    "eval-ppl": "a smaller --batch or --bootstrap",
    "eval-tasks": "a smaller --batch or --bootstrap",
    "eval-text": "a smaller --self-bleu or --bootstrap",
    "eval-diff": "a smaller --bootstrap",
    "detect show": "a smaller --batch or --context",
    "detect train": "a smaller --words",
    "fit-scaling": "a smaller --bootstrap",
    "bpe-tokenize": "a smaller --jobs",
    "pack": "a smaller --jobs or --shard-tokens",
    "overlap": "a smaller --jobs or --capacity",
    "webtext-scrape": "a smaller --jobs, --concurrency or --body-memory",
    "webtext-scrape fetch": "a smaller --concurrency or --body-memory",
    "webtext-scrape links": "a smaller --jobs",
    "webtext-scrape extract": "a smaller --jobs",
    "webtext-scrape filter": "a smaller --jobs",
    "webtext-scrape dedup": "a smaller --memory or --jobs",
}
"""Command, or command and verb -> what needs less memory there. Of the others a smaller input does."""


def memory_sentence(words: Sequence[str], error: BaseException) -> str:
    """Return the sentence for an error of is_out_of_memory(); words: the command and all that follows it."""
    if isinstance(error, ImportError):
        return CANNOT_LOAD
    if "new thread" in str(error):
        return ("a thread cannot be started: memory ran out, or no more processes are allowed (ulimit -u); raise that "
                "limit or free some memory")
    less = NEEDS_LESS.get(" ".join(words[:2]), NEEDS_LESS.get(words[0] if words else "", "a smaller input"))
    return f"out of memory; {less} needs less"
