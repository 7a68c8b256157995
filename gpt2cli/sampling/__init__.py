"""Sampling: generation with a KV cache, filters and per-sample random streams."""
