"""Inference cost of a study's systems: parameters, bytes, operations per example, latency and rate.

All systems are measured on the same dev examples, in turn, after a warm-up, so that other load on
the machine falls on all alike. Time is from word pieces to logits, without tokenization. Weights do
not matter to the cost, shapes do: a system with a model per task is measured by one of them, and
pays for the size of all.
"""

import statistics
import time
from collections import defaultdict
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


@dataclass(frozen=True)
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
        smallest = case.batches[min(case.batches)]
        operations = sum(map(flops, case.models, smallest))
        for system, copies in case.systems.items():
            models = case.models if copies == 1 else [_one_head(model) for model in case.models]
            counts = [parameters(model) for model in models]
            size = sum(_file_size(model, scratch) for model in models)
            row = {"system": system, "measured": case.name, "models": copies * len(models)}
            row["params"] = sum(total for total, _ in counts)
            row["params_without_embeddings"] = sum(total - table for total, table in counts)
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
        (case.name, size): [[batch.to(device) for batch in part] for part in parts]
        for case in cases
        for size, parts in case.batches.items()
    }
    passes = defaultdict(list)
    for number in range(rounds + 1):
        for size in cases[0].batches:
            for case in cases:
                seconds = _time_batches(case.models, batches[case.name, size], wait)
                if number > 0:  # the first warms up
                    passes[case.name, size].append(seconds)
    rows = []
    for (name, size), seconds in passes.items():
        medians = [1000 * statistics.median(part) for part in seconds]
        examples = sum(len(batch.labels) for batch in batches[name, size][0])
        rates = [examples / sum(part) for part in seconds]
        row = {"measured": name, "device": device.type, "batch": size}
        row["latency"] = 1000 * float(np.median(np.concatenate(seconds)))
        row |= {"latency_low": min(medians), "latency_high": max(medians)}
        row |= {"rate": statistics.median(rates), "rate_low": min(rates), "rate_high": max(rates)}
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
    return (total + sum(lstm_flops)) / sum(len(batch.labels) for batch in batches)


@contextmanager
def _spelled_out(model: MultiTaskModel) -> Iterator[list[int]]:
    """Use plain attention in the block, and collect the operations of each call of an LSTM."""
    lstm_flops: list[int] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda lstm, inputs: lstm_flops.append(lstm.flops(int(inputs[1].sum())))
        )
        for module in model.modules()
        if isinstance(module, BiLstm)
    ]
    bert = getattr(model.encoder, "model", None)
    attention = bert and bert.config._attn_implementation
    try:
        if bert:
            bert.set_attn_implementation("eager")
        yield lstm_flops
    finally:
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
    return MultiTaskModel(model.encoder, [task], {task.name: 0.0})
