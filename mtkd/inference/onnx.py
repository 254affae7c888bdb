"""A task's model as an ONNX graph: word pieces, mask and segments to logits, for any number of examples and word pieces."""

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models.lstm import BiAttentiveEncoder, sentences
from mtkd.models.multitask import MultiTaskModel
from mtkd.tasks import Task

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17


class _Graph(nn.Module):
    """One task's model with tensors in and out, its shapes free of what they hold."""

    def __init__(self, model: MultiTaskModel, task: Task):
        super().__init__()
        self.encoder, self.head, self.task = model.encoder, model.heads[task.name], task

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        batch = Batch(
            self.task.name, input_ids, attention_mask, token_type_ids, labels=input_ids[:, 0]
        )
        if isinstance(self.encoder, BiAttentiveEncoder):
            return self.head(self.encoder.read(sentences(batch, pair=len(self.task.columns) == 2)))
        return self.head(self.encoder(batch))


def _packages():
    try:
        import onnx  # noqa: F401
        import onnxruntime
        from onnxruntime import quantization
    except ImportError as error:
        raise UserError(
            f"ONNX needs packages that are not installed ({error.name}): run pip install 'mtkd[onnx]', or in a checkout "
            "pip install -e '.[onnx]'."
        ) from None
    return onnxruntime, quantization


@torch.no_grad()
def write_onnx(model: MultiTaskModel, task: Task, path: Path) -> None:
    """The graph of one task: int64 `input_ids`, `attention_mask` and `token_type_ids` (b, n) to fp32 `logits` (b, outputs)."""
    _packages()
    longest, lengths = (
        12,
        torch.tensor([12, 9]),
    )  # a batch with padding: without it, tracing would leave the mask out
    place = torch.arange(longest)
    mask = (place < lengths[:, None]).long()
    kinds = mask * (place >= 5) if len(task.columns) == 2 else torch.zeros_like(mask)
    axes = {name: {0: "examples", 1: "pieces"} for name in INPUTS} | {"logits": {0: "examples"}}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracer warns of every shape that it takes for a constant: the check tells
        # The tracing exporter, not the newer one: that has no packed LSTM, and takes a minute where this takes seconds.
        torch.onnx.export(
            _Graph(model, task).eval(),
            (mask, mask, kinds),
            str(path),
            dynamo=False,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
        )


def quantise(path: Path, out: Path) -> None:
    """The graph with weights as 8-bit integers and activations quantised as it runs (dynamic quantisation)."""
    _, quantization = _packages()
    logging.disable(logging.WARNING)
    try:
        quantization.quantize_dynamic(str(path), str(out), weight_type=quantization.QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)


def session(path: Path, threads: int = 1):
    """An onnxruntime session on the processor."""
    runtime, _ = _packages()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
