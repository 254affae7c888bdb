"""What it costs to run a system: parameters, bytes, operations an example, and time by batch size.

One function measures all systems of a study on the same dev examples, in turn, after a warm-up, so that what else the
machine does falls on all alike. Time is that of the model from word pieces to logits: tokenising is left out. Weights
do not matter to the cost, shapes do; a system of a model a task is measured by one of them and pays for its size as
often as it has models.
"""

import statistics
import time
from collections.abc import Callable
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
class Served:
    """A shape that is measured: the models that an example goes through (one, or an ensemble's members), and its batches by
    size, a list a member. `systems` share the shape: their names with how many such models serve all tasks (1: one serves
    them all; otherwise each has a single head).
    """

    models: list[MultiTaskModel]
    batches: dict[int, list[list[Batch]]]
    systems: dict[str, int]

    @property
    def name(self) -> str:
        return next(iter(self.systems))


def parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters of a model in all, and those of its embedding tables."""
    tables = sum(
        module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding)
    )
    return sum(parameter.numel() for parameter in model.parameters()), tables


@torch.no_grad()
def flops(model: MultiTaskModel, batches: list[Batch]) -> float:
    """Floating-point operations of matrix products an example (a multiplication and an addition are two), padding included.

    Counted by torch as the model runs, with attention spelled out; an LSTM's by formula, since its operation differs from
    machine to machine, over the word pieces that it is given (packed, so without padding).
    """
    model.eval()
    device, by_formula, hooks = next(model.parameters()).device, [0], []
    inner = getattr(model.encoder, "model", None)
    attention = inner.config._attn_implementation if inner is not None else None
    for module in model.modules():
        if isinstance(module, BiLstm):
            hooks.append(
                module.register_forward_pre_hook(
                    lambda lstm, given: by_formula.__setitem__(
                        0, by_formula[0] + lstm.flops(int(given[1].sum()))
                    )
                )
            )
    if inner is not None:
        inner.set_attn_implementation("eager")
    total = examples = 0
    try:
        for batch in batches:
            counter = FlopCounterMode(display=False)
            with counter:
                model(batch.to(device))
            counted = counter.get_flop_counts()
            inside = sum(
                sum(values.values())
                for name, values in counted.items()
                if name.rpartition(".")[2] == "lstm"
            )
            total += counter.get_total_flops() - inside
            examples += len(batch.labels)
    finally:
        for hook in hooks:
            hook.remove()
        if inner is not None:
            inner.set_attn_implementation(attention)
    return (total + by_formula[0]) / examples


def bytes_on_disk(model: MultiTaskModel, folder: Path) -> int:
    """Size of the model's file of weights."""
    path = folder / "model.safetensors"
    model.save(path)
    size = path.stat().st_size
    path.unlink()
    return size


@torch.inference_mode()
def _pass(served: Served, batches: list[list[Batch]], wait: Callable[[], None]) -> list[float]:
    """Seconds of each batch: all members on it, one after the other."""
    seconds = []
    for parts in zip(*batches, strict=True):
        wait()
        started = time.perf_counter()
        for model, batch in zip(served.models, parts, strict=True):
            model(batch)
        wait()
        seconds.append(time.perf_counter() - started)
    return seconds


def speeds(
    systems: list[Served], sizes: list[int], rounds: int, device: torch.device
) -> pd.DataFrame:
    """A row a system and batch size: `latency` (ms a batch, median of all), `latency_low` and `latency_high` (least and
    greatest of the rounds' medians), `rate` (examples/s, median of the rounds) with `rate_low` and `rate_high`.

    In each round every system is measured once, in turn; the first round warms up and does not count.
    """
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for served in systems:
        for model in served.models:
            model.to(device).eval()
    given = {
        (served.name, size): [[batch.to(device) for batch in part] for part in served.batches[size]]
        for served in systems
        for size in sizes
    }
    for turn in range(rounds + 1):
        for size in sizes:
            for served in systems:
                seconds = _pass(served, given[served.name, size], wait)
                if turn:
                    found.setdefault((served.name, size), []).append(seconds)
    rows = []
    for (name, size), passes in found.items():
        medians = [1000 * statistics.median(seconds) for seconds in passes]
        count = sum(len(batch.labels) for batch in given[name, size][0])
        rates = [count / sum(seconds) for seconds in passes]
        rows.append(
            dict(
                system=name,
                device=device.type,
                batch=size,
                latency=1000 * float(np.median(np.concatenate(passes))),
                latency_low=min(medians),
                latency_high=max(medians),
                rate=statistics.median(rates),
                rate_low=min(rates),
                rate_high=max(rates),
                examples=count,
            )
        )
    return pd.DataFrame(rows)


def costs(
    shapes: list[Served], rounds: int, scratch: Path, devices: list[torch.device]
) -> pd.DataFrame:
    """The cost of every system: a row a system, device and batch size.

    Columns of `speeds` (systems of one shape share its measurement, named in `measured`), and: `models` (to serve all
    tasks, members counted), `params`, `params_without_embeddings`, `bytes` (of the models an example goes through),
    `bytes_all` (of all models), `flops` (an example, in batches of the smallest size).
    """
    about = []
    for served in shapes:
        smallest = served.batches[min(served.batches)]
        operations = sum(
            flops(model, part) for model, part in zip(served.models, smallest, strict=True)
        )
        for system, times in served.systems.items():
            models = served.models if times == 1 else [_one_head(model) for model in served.models]
            sizes = [parameters(model) for model in models]
            size = sum(bytes_on_disk(model, scratch) for model in models)
            about.append(
                dict(
                    system=system,
                    measured=served.name,
                    models=times * len(models),
                    params=sum(both for both, _ in sizes),
                    params_without_embeddings=sum(both - tables for both, tables in sizes),
                    bytes=size,
                    bytes_all=size * times,
                    flops=operations,
                )
            )
    timed = pd.concat(
        [speeds(shapes, list(shapes[0].batches), rounds, device) for device in devices]
    )
    return pd.DataFrame(about).merge(
        timed.rename(columns={"system": "measured"}), on="measured", sort=False
    )


def _one_head(model: MultiTaskModel) -> MultiTaskModel:
    """The same encoder under one task's head."""
    task = next(iter(model.tasks.values()))
    return MultiTaskModel(model.encoder, [task], {task.name: 0.0})
