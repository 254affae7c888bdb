"""What a study's number format means on a device."""

import pytest
import torch

from mtkd.training import precision
from mtkd.training.precision import autocast, number_format


@pytest.mark.parametrize(("able", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bf16_computes_in_fp16(able, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert number_format("cuda") == expected


@pytest.mark.parametrize(("able", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_without_bf16_computes_in_fp32(able, expected, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: able)
    assert number_format("cpu") == expected
    with autocast("cpu", "bf16"):
        assert (torch.eye(2) @ torch.eye(2)).dtype == expected
    with autocast("cpu", "fp32"):
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32


def test_a_cpu_has_bf16_where_its_library_says_so(monkeypatch):
    assert precision._cpu_has_bf16() == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not precision._cpu_has_bf16()
