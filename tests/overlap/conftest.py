"""Fixtures of the overlap tests."""

from __future__ import annotations

from in_process import gpt2_here  # noqa: F401 (a fixture)
