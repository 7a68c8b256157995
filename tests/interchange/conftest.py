from __future__ import annotations

from in_process import gpt2_here  # noqa: F401 (a fixture)
from small_model import _one_thread, model_directory  # noqa: F401 (fixtures)
