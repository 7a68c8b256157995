"""Whether the compiled training passes can be had on this machine; their tests are skipped where they can't."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpt2cli.model.native_kernels import NoKernelsError, native_kernels
from gpt2cli.model.small_network import small_network_library


def _missing(get: Callable[[], object]) -> str:
    try:
        get()
    except NoKernelsError as error:
        return str(error)
    return ""


def needs_native_kernels() -> pytest.MarkDecorator:
    """Mark what needs the bf16 kernels."""
    why = _missing(native_kernels)
    return pytest.mark.skipif(bool(why), reason=why or "there are kernels")


def needs_small_network() -> pytest.MarkDecorator:
    """Mark what needs the pass of small networks."""
    why = _missing(small_network_library)
    return pytest.mark.skipif(bool(why), reason=why or "there is the pass")
