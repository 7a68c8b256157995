from __future__ import annotations

import pytest
import torch

from gpt2cli.errors import UsageFault
from gpt2cli.model.device import choose_device, choose_dtype


def test_cpu_and_dtypes_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert (choose_dtype("fp32"), choose_dtype("bf16")) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "cuda:99", "mps:0", ""])
def test_a_device_that_is_not_there_is_a_usage_fault(name: str) -> None:
    with pytest.raises(UsageFault, match="no device"):
        choose_device(name)


def test_an_unknown_dtype_is_a_usage_fault() -> None:
    with pytest.raises(UsageFault, match="dtypes are fp32, bf16, fp16"):
        choose_dtype("fp8")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="a GPU is here")
def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    assert choose_device("auto") == torch.device("cpu")
