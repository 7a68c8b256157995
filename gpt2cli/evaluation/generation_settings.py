"""generation_kwargs, read as lm-evaluation-harness means them (normalize_gen_kwargs and HFLM of 0.4.13)."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.task import Task

DEFAULT_TOKENS = 256
"""lm_eval's max_gen_toks."""
DEFAULT_TOP_K = 50
"""What transformers keeps when it samples and top_k is not given."""
END_OF_TEXT = "<|endoftext|>"
_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0, "typical_p": 1.0, "min_p": 0.0,
            "no_repeat_ngram_size": 0, "use_cache": True, "early_stopping": False}


@dataclass(frozen=True)
class GenerationSettings:
    """How an answer is generated. until: texts that end it and are cut off. temperature 0: the most probable token.

    max_tokens: None where the task says nothing; see most_tokens. keep_end: an ending of the prompt that is
    kept, when the prompt is too long, by dropping tokens right before it; "" drops them from the left.
    """

    until: tuple[str, ...] = ("\n\n",)
    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    keep_end: str = ""

    def most_tokens(self, n_ctx: int) -> int:
        """Return how many tokens an answer of a model with n_ctx positions may have: lm_eval's 256 unless given.

        A model with less than 512 positions is given half of them, where lm_eval fails.
        """
        return self.max_tokens or min(DEFAULT_TOKENS, max(1, n_ctx // 2))


def generation_settings(task: Task) -> GenerationSettings:
    """Return the settings of a task; raise BadInput for a key that is not supported or a value that makes no sense."""
    left = dict(task.generation)
    where = f"{task.where}: generation_kwargs"
    until = _until(left.pop("until", task.fewshot_delimiter), where)
    given = [left.pop(name) for name in _TOKENS if left.get(name) is not None]
    max_tokens = int(_number(given[0], 1, 1_000_000, f"{where}: max_gen_toks")) if given else None
    temperature = _number(left.pop("temperature", 0.0), 0.0, 1e6, f"{where}: temperature")
    sampled = left.pop("do_sample", None)
    if sampled not in (None, True, False):
        raise BadInput(f"{where}: do_sample is neither true nor false")
    if sampled and not temperature:
        temperature = 1.0 if "temperature" not in task.generation else 0.0
    if sampled and not temperature:
        raise BadInput(f"{where}: do_sample is true and temperature 0; leave one of them out")
    sampled = temperature > 0 if sampled is None else sampled
    top_k, top_p = left.pop("top_k", DEFAULT_TOP_K), left.pop("top_p", None)
    top_k = None if not top_k else int(_number(top_k, 1, 1_000_000, f"{where}: top_k"))
    top_p = None if top_p is None else _number(top_p, 1e-9, 1.0, f"{where}: top_p")
    keep_end = left.pop("keep_end", "")
    if not isinstance(keep_end, str):
        raise BadInput(f"{where}: keep_end is no text")
    for name, value in left.items():
        if name not in _NEUTRAL or value != _NEUTRAL[name]:
            raise BadInput(f"{where}: {name} is not supported; there are until, do_sample, temperature, top_k, top_p "
                           "and max_gen_toks")
    if not sampled:
        return GenerationSettings(until, max_tokens, keep_end=keep_end)
    return GenerationSettings(until, max_tokens, temperature, top_k, top_p, keep_end)


def cut_at_stops(text: str, until: tuple[str, ...]) -> str:
    """Return the text before the stop strings, cut at one after the other as lm_eval does.

    Like lm_eval, it takes `<|endoftext|>` spelled out for a stop string.
    """
    for stop in (*until, END_OF_TEXT):
        text = text.split(stop)[0]
    return text


def _until(value: object, where: str) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, (list, tuple)) or not all(isinstance(stop, str) and stop for stop in stops):
        raise BadInput(f"{where}: until is no text or list of texts, or one of them is empty")
    return tuple(stops)


def _number(value: object, low: float, high: float, where: str) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            pass
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or (
            whole and value != int(value)):
        raise BadInput(f"{where} is {str(value)[:40]!r}, not a {'whole ' if whole else ''}number from {low:g} to "
                       f"{high:g}")
    return value
