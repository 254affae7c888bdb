"""Number formats of matrix products, as the device at hand computes them."""

import torch


def number_format(device: str) -> torch.dtype:
    """Return what `precision: bf16` means on a kind of device.

    A GPU without bf16 computes in fp16. A CPU without it computes in fp32: torch would emulate
    bf16, which takes 15 times as long as fp32.
    """
    if device == "cpu":
        return torch.bfloat16 if _cpu_has_bf16() else torch.float32
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if supported else torch.float16


def autocast(device: str, precision: str) -> torch.autocast:
    """Compute the matrix products in the block in a study's number format."""
    half = number_format(device) if precision == "bf16" else torch.float32
    if half == torch.float32:
        return torch.autocast(device, enabled=False)
    return torch.autocast(device, half)


def _cpu_has_bf16() -> bool:
    # True of AVX-512 without bf16 units, too: there oneDNN converts the numbers.
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and known is not None and known()
