"""Inference cost of a study's systems: parameters, bytes, operations per example, latency and rate.

All systems are measured on the same dev examples, in turn, after a warm-up, so that other load on
the machine falls on all alike. Time is from word pieces to logits, without tokenization. Weights do
not matter to the cost, shapes do: a system with a model per task is measured by one of them, and
pays for the size of all.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtkd.data.dataset import Batch
from mtkd.models import MultiTaskModel
from mtkd.models.lstm import BiLstm


@dataclass(frozen=True, eq=False)
class CostCase:
    """Models of one shape, measured once for all systems that have it.

    An example passes through all of `models`: one, or an ensemble's members. `batches` holds, by
    batch size, a list of batches per model. `systems` are names, each with the number of copies of
    the models for all tasks: with 1, a model has all heads; otherwise each copy has one.
    """

    models: list[MultiTaskModel]
    batches: dict[int, list[list[Batch]]]
    systems: dict[str, int]

    @property
    def name(self) -> str:
        """The first system's."""
        return next(iter(self.systems))


def measure_costs(
    cases: list[CostCase], rounds: int, scratch: Path, devices: list[torch.device]
) -> pd.DataFrame:
    """Measure every system: a row per system, device and batch size.

    Columns: those of `measure_speeds` (the case is named in `measured`), models (for all tasks),
    params, params_without_embeddings and bytes (of the models that an example passes through),
    bytes_all (of all models), flops (per example, at the smallest batch size).
    """
    sizes = []
    for case in cases:
        operations = sum(map(flops, case.models, case.batches[min(case.batches)]))
        for system, copies in case.systems.items():
            models = case.models if copies == 1 else [_one_head(model) for model in case.models]
            total, in_tables = np.sum([parameters(model) for model in models], axis=0)
            size = sum(_file_size(model, scratch) for model in models)
            row = {"system": system, "measured": case.name, "models": copies * len(models)}
            row |= {"params": total, "params_without_embeddings": total - in_tables}
            sizes.append(row | {"bytes": size, "bytes_all": size * copies, "flops": operations})
    speeds = pd.concat([measure_speeds(cases, rounds, device) for device in devices])
    return pd.DataFrame(sizes).merge(speeds, on="measured", sort=False)


def measure_speeds(cases: list[CostCase], rounds: int, device: torch.device) -> pd.DataFrame:
    """Measure every case on a device: a row per case and batch size.

    Columns: measured, device, batch, latency (ms per batch, median of all), latency_low and
    latency_high (least and greatest of the rounds' medians), rate (examples per second, median of
    the rounds), rate_low, rate_high, examples. In each round every case is measured once, in turn.
    """
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    for model in (model for case in cases for model in case.models):
        model.to(device).eval()
    batches = {
        (case, size): [[batch.to(device) for batch in part] for part in case.batches[size]]
        for size in cases[0].batches
        for case in cases
    }
    passes: dict = {key: [] for key in batches}
    for _ in range(rounds + 1):
        for case, size in batches:
            seconds = _time_batches(case.models, batches[case, size], wait)
            passes[case, size].append(seconds)
    rows = []
    for (case, size), (_, *timed) in passes.items():  # the first round warms up
        seconds = np.array(timed)  # (rounds, batches)
        medians = 1000 * np.median(seconds, axis=1)
        examples = sum(len(batch.input_ids) for batch in case.batches[size][0])
        rates = examples / seconds.sum(axis=1)
        row = {"measured": case.name, "device": device.type, "batch": size}
        row |= {"latency": 1000 * np.median(seconds)}
        row |= {"latency_low": medians.min(), "latency_high": medians.max()}
        row |= {"rate": np.median(rates), "rate_low": rates.min(), "rate_high": rates.max()}
        rows.append(row | {"examples": examples})
    return pd.DataFrame(rows)


@torch.inference_mode()
def _time_batches(models: list, batches: list[list[Batch]], wait: Callable) -> list[float]:
    """Return the seconds of each batch: all models on it, one after the other."""
    seconds = []
    for parts in zip(*batches, strict=True):
        wait()
        started = time.perf_counter()
        for model, batch in zip(models, parts, strict=True):
            model(batch)
        wait()
        seconds.append(time.perf_counter() - started)
    return seconds


def parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of a model's parameters, and of those in its embedding tables."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, sum(table.weight.numel() for table in tables)


@torch.no_grad()
def flops(model: MultiTaskModel, batches: list[Batch]) -> float:
    """Return the floating-point operations of matrix products per example, padding included.

    A multiplication and an addition are two. torch counts them, with attention spelled out; an
    LSTM's follow from its formula, without padding, as its operation differs between machines.
    """
    model.eval()
    device, total = next(model.parameters()).device, 0
    with _spelled_out(model) as lstm_flops:
        for batch in batches:
            with FlopCounterMode(display=False) as counter:
                model(batch.to(device))
            total += counter.get_total_flops()
            for module, counts in counter.get_flop_counts().items():
                if module.rpartition(".")[2] == "lstm":
                    total -= sum(counts.values())
    return (total + sum(lstm_flops)) / sum(len(batch.input_ids) for batch in batches)


@contextmanager
def _spelled_out(model: MultiTaskModel) -> Iterator[list[int]]:
    """Use plain attention in the block, and collect the operations of each call of an LSTM."""
    lstm_flops: list[int] = []

    def count(lstm: BiLstm, inputs: tuple) -> None:
        lstm_flops.append(lstm.flops(positions=int(inputs[1].sum())))

    lstms = [module for module in model.modules() if isinstance(module, BiLstm)]
    hooks = [lstm.register_forward_pre_hook(count) for lstm in lstms]
    bert = getattr(model.encoder, "model", None)
    attention = bert and bert.config._attn_implementation
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)  # torch's counter fails at a view of a parameter that has one
        if bert:
            bert.set_attn_implementation("eager")
        yield lstm_flops
    finally:
        for parameter in trained:
            parameter.requires_grad_()
        for hook in hooks:
            hook.remove()
        if bert:
            bert.set_attn_implementation(attention)


def _file_size(model: MultiTaskModel, folder: Path) -> int:
    path = folder / "model.safetensors"
    model.save(path)
    size = path.stat().st_size
    path.unlink()
    return size


def _one_head(model: MultiTaskModel) -> MultiTaskModel:
    task = next(iter(model.tasks.values()))
    return MultiTaskModel(model.encoder, [task], {task.name: 0.0}, model.kinds)
