"""The contracts between commands: JSONL records, token shards, checkpoints, runs, atomic writing, provenance."""
