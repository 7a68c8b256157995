"""The record kinds that travel between commands: name, version, and the fields every reader may count on."""

from __future__ import annotations

from types import MappingProxyType

from gpt2cli.errors import BadInput

SCHEMAS = MappingProxyType(
    {
        "gpt2.link": (1, ("url", "url_key", "karma", "subreddit", "created_utc")),
        "gpt2.page": (1, ("url", "outcome", "retrieved")),
        "gpt2.reject": (1, ("what", "reason")),
        "gpt2.document": (1, ("id", "text")),
        "gpt2.matches": (1, ("share", "shares", "signatures")),
        "gpt2.match": (1, ("ranks",)),
        "gpt2.duplicates": (1, ("parts",)),
        "gpt2.duplicate": (1, ("part", "line", "reason", "survivor", "similarity")),
        "gpt2.run": (1, ("run", "config", "seed", "n_params", "n_params_non_embedding", "n_layer", "n_embd",
                         "n_head", "n_ctx", "n_vocab", "tokenizer_sha256", "data_sha256", "versions")),
        "gpt2.step": (1, ("run", "step", "tokens", "flops", "loss_nats", "lr", "lr_phase", "grad_norm")),
        "gpt2.layers": (1, ("run", "step", "tokens", "flops", "layers")),
        "gpt2.spike": (1, ("run", "step", "tokens", "flops", "what", "policy", "batch", "files")),
        "gpt2.eval": (1, ("run", "step", "tokens", "flops", "split", "nll_nats_per_token", "ppl", "n_tokens",
                          "protocol")),
        "gpt2.eval-document": (1, ("document", "id", "nll_nats", "n_tokens", "n_words", "n_bytes", "n_characters")),
        "gpt2.eval-token": (1, ("document", "position", "id", "nll_nats", "rank", "entropy_nats")),
        "gpt2.item": (1, ("task", "item", "type", "metrics")),
        "gpt2.task": (1, ("run", "step", "tokens", "flops", "n_params", "task", "type", "num_fewshot", "n_items",
                          "metrics", "protocol")),
        "gpt2.eval-diff": (1, ("task", "metric", "a", "b", "difference", "stderr", "interval", "n_pairs", "n_only_a",
                               "n_only_b")),
        "gpt2.gltr": (1, ("document", "id", "n_tokens", "nll_nats_per_token", "entropy_nats_per_token", "ranks",
                          "tokens")),
        "gpt2.overlap": (1, ("document", "id", "n_grams", "n_overlap", "overlap")),
        "gpt2.overlap-passage": (1, ("test", "document", "id", "n_words", "start", "stop", "text",
                                     "n_train_documents", "train")),
        "gpt2.overlap-set": (1, ("n", "n_documents", "n_grams", "n_overlap", "overlap", "n_distinct",
                                 "n_distinct_overlap", "n_documents_with_overlap", "train", "method")),
        "gpt2.text-quality": (1, ("set", "measures", "n_documents", "unit", "text_sha256")),
        "gpt2.text-quality-document": (1, ("set", "document", "id", "n_units")),
        "gpt2.text-quality-diff": (1, ("measures", "level")),
        "gpt2.perf": (1, ("run", "step", "tokens_per_second")),
        "gpt2.checkpoint": (1, ("run", "step", "tokens", "files")),
        "gpt2.detection": (1, ("document", "id", "probability", "verdict", "score", "p_human", "words", "prevalence",
                               "method")),
        "gpt2.detection-report": (1, ("group", "words", "n_human", "n_generated", "accuracy", "accuracy_interval",
                                      "auc", "auc_interval", "human_right", "human_right_interval", "generated_right",
                                      "generated_right_interval")),
        "gpt2.sample": (1, ("prompt", "text", "finish_reason")),
        "gpt2.verify": (1, ("path", "ok")),
        "gpt2.doctor": (1, ("topic", "name", "value", "state", "advice")),
        "gpt2.shard-info": (1, ("path", "kind", "tokens", "documents", "text_bytes", "bytes", "dtype", "n_vocab", "eot",
                                "tokenizer_sha256")),
        "gpt2.fit": (1, ("law", "parameters")),
        "gpt2.plan": (1, ("law", "flops")),
        "gpt2.end": (1, ("count", "sha256")),
    }
)
"""Kind -> (version this program writes, required fields)."""


def schema_name(kind: str) -> str:
    """Return the value of a record's `schema` field for `kind`, such as "gpt2.step/1"."""
    return f"{kind}/{SCHEMAS[kind][0]}"


def parse_schema(value: object) -> tuple[str, int] | None:
    """Split "gpt2.step/1" into ("gpt2.step", 1); None when `value` has no such form."""
    if not isinstance(value, str) or "/" not in value:
        return None
    kind, _, version = value.rpartition("/")
    if not (version.isascii() and version.isdigit() and len(version) < 6):
        return None
    return kind, int(version)


def newer_format(where: str, kind: str, version: int, own: int | None = None) -> BadInput:
    """Return the error for something of a newer format than ours, which names both; `where` is for the message.

    own: the version that this program reads, by default that of the record kind.
    """
    own = SCHEMAS[kind][0] if own is None else own
    return BadInput(f"{where}: schema {kind}/{version} was written by a newer gpt2; this one reads up to {kind}/{own}, "
                    "so update it")


def refuse_newer(schema: object, own: str, where: str) -> None:
    """Raise BadInput when `schema` is a later version of `own`, such as "gpt2.shards/1"; `where` is for the message."""
    parsed, known = parse_schema(schema), parse_schema(own)
    if parsed and known and parsed[0] == known[0] and parsed[1] > known[1]:
        raise newer_format(where, *parsed, known[1])
