"""Export of a task's model as an ONNX graph, for any number of examples and word pieces."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models.decoder import Step, before
from mtkd.models.lstm import BiAttentiveEncoder
from mtkd.models.multitask import MultiTaskModel, at_words, hide_cut
from mtkd.models.sentences import split_sentences
from mtkd.tasks import Task

INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # the last where it is read
WRITTEN = "decoder_input_ids"  # of a text: its start, the source's first piece, and what follows
OPSET = 17


def export_onnx(
    model: MultiTaskModel, task: Task, folder: Path
) -> dict[str, Callable[[Batch], np.ndarray]]:
    """Write `model.onnx` and `model.int8.onnx`, which is dynamically quantised, to `folder`.

    The graphs map int64 `INPUTS` (b, n) to fp32 `logits` (b, outputs); in a task with a label for
    each word to those of all word pieces (b, n, outputs). To write a text they read `WRITTEN`
    (b, t), too, and give the logits of the piece after each, (b, t, vocabulary). Returns both, as
    loaded, by the names "onnx" and "onnx int8". Raises `UserError` where ONNX's packages are not
    installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise UserError(
            f"ONNX needs packages that are not installed ({error.name}): run "
            "pip install 'mtkd[onnx]', or in a checkout pip install -e '.[onnx]'."
        ) from None
    paths = {"onnx": folder / "model.onnx", "onnx int8": folder / "model.int8.onnx"}
    _trace(_Graph(model, task).eval(), paths["onnx"])
    logging.disable(logging.WARNING)  # it recommends what makes no difference here
    quantize_dynamic(*map(str, paths.values()), weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    load = onnxruntime.InferenceSession
    cpu = ["CPUExecutionProvider"]
    run = OnnxWriter if task.generates else _logits
    return {name: run(load(str(path), options, cpu)) for name, path in paths.items()}


class _Graph(nn.Module):
    """One task's model with tensors in and out, whose shapes do not depend on values."""

    def __init__(self, model: MultiTaskModel, task: Task):
        super().__init__()
        self.encoder, self.head, self.task = model.encoder, model.heads[task.name], task
        self.linear = model.kinds[task.name] == "linear"
        self.pooled = self.linear and not task.by_word

    def forward(self, ids: Tensor, mask: Tensor, *others: Tensor) -> Tensor:
        # Others: the pieces of a text that is written, and the segments where they are read.
        (segments,) = others[self.task.generates :] or [torch.zeros_like(ids)]
        batch = Batch(self.task.name, ids, mask, segments, labels=ids[:, 0])
        if self.task.generates:
            table = self.encoder.table
            values = self.head.read(self.encoder.states(batch), batch, others[0], table)
            return F.linear(values, table)
        lstm, pair = isinstance(self.encoder, BiAttentiveEncoder), len(self.task.columns) == 2
        if not self.pooled:
            states = self.encoder.states(batch, pair) if lstm else self.encoder.states(batch)
            return self.head(states) if self.linear else self.head(states, batch)
        if lstm:
            return self.head(self.encoder.encode(split_sentences(batch, pair)))
        return self.head(self.encoder(batch))


@torch.no_grad()
def _trace(graph: _Graph, path: Path) -> None:
    # With padding: without it, tracing would leave the mask out.
    column = torch.arange(12)
    mask = (column < torch.tensor([[12], [9]])).long()
    segments = mask * (column >= 5) if len(graph.task.columns) == 2 else torch.zeros_like(mask)
    inputs = dict.fromkeys(INPUTS[:2], mask)
    axes = {name: {0: "examples", 1: "pieces"} for name in [*INPUTS, "logits"]}
    if graph.task.generates:
        inputs[WRITTEN] = mask[:, :4]
        axes |= {name: {0: "examples", 1: "written"} for name in [WRITTEN, "logits"]}
    elif not graph.task.by_word:
        axes["logits"] = {0: "examples"}
    if getattr(graph.encoder, "segments", True) or not graph.linear:
        inputs[INPUTS[2]] = segments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every shape it takes for a constant
        # The newer exporter has no packed LSTM and takes a minute where tracing takes seconds.
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
        )


def _inputs(session, batch: Batch) -> dict[str, np.ndarray]:
    names = [entry.name for entry in session.get_inputs()]
    return {name: getattr(batch, name).numpy() for name in names if name in INPUTS}


def _logits(session) -> Callable[[Batch], np.ndarray]:
    def run(batch: Batch) -> np.ndarray:
        (logits,) = session.run(None, _inputs(session, batch))
        if batch.words is None:
            return logits
        return hide_cut(at_words(torch.from_numpy(logits), batch), batch).numpy()

    return run


class OnnxWriter:
    """A graph that writes texts, used as a `MultiTaskModel` is."""

    def __init__(self, session):
        self.session = session

    def __call__(self, batch: Batch) -> np.ndarray:
        """Return the logits (u, vocabulary) of the pieces of a batch's texts."""
        logits = self._after(_inputs(self.session, batch), before(batch))
        return logits[tuple(batch.words.unbind(1))].numpy()

    def begin(self, batch: Batch, beams: int) -> Step:
        """Return what continues texts piece by piece, as `TextDecoder.begin` does."""
        inputs = _inputs(self.session, batch)
        inputs = {name: values.repeat(beams, axis=0) for name, values in inputs.items()}
        written = torch.empty(len(batch.input_ids) * beams, 0, dtype=torch.long)

        def step(pieces: Tensor, rows: Tensor) -> Tensor:
            nonlocal written
            written = torch.cat([written[rows], pieces[:, None]], dim=1)
            return F.log_softmax(self._after(inputs, written)[:, -1], dim=-1)

        return step

    def _after(self, inputs: dict[str, np.ndarray], written: Tensor) -> Tensor:
        (logits,) = self.session.run(None, inputs | {WRITTEN: written.numpy()})
        return torch.from_numpy(logits)
