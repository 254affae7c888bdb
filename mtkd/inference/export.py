"""A trained model for use elsewhere: a folder in transformers' format or as ONNX, checked as it is written, with a model card."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification

from mtkd.artifacts import write_json, writing
from mtkd.data.dataset import Batch, Examples
from mtkd.errors import UserError
from mtkd.inference import model_card as card
from mtkd.inference.classifier import as_classifier
from mtkd.inference.load import Trained
from mtkd.inference.onnx import INPUTS, quantise, session, write_onnx
from mtkd.inference.predict import examples
from mtkd.training.predict import probabilities, score_rows

FORMATS = ("transformers", "onnx")
TOLERANCE = 1e-4
CHECKED = 64  # examples that an export's logits are compared on
Run = Callable[[Batch], np.ndarray]


def export(trained: Trained, out: Path, form: str = "transformers") -> pd.DataFrame:
    """Writes the model for one task to a new folder, all of it or nothing, and returns how it compares.

    transformers: config.json, model.safetensors and the tokenizer, for `AutoModelForSequenceClassification`. onnx:
    model.onnx, model.int8.onnx (dynamic quantisation), labels.json and the tokenizer. README.md is the model card. The rows
    of the table: `variant`, `gap` (largest difference of a logit from the study's model on dev examples), the task's
    metrics on each dev set (percent) and `rate_1`, `rate_32` (examples/s, batches of 1 and 32), all measured in this run.

    Raises `UserError` for an unknown format, a folder that holds something, a model that the format cannot hold, or logits
    that differ by more than 1e-4 (of the largest, where that is above 1).
    """
    if form not in FORMATS:
        raise UserError(f"--format {form}: the formats are {' and '.join(FORMATS)}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out} is there already and not empty: give a new folder, or remove that one."
        )
    runs: dict[str, Run] = {"study": partial(_torch, trained.model)}
    with writing(out.absolute()) as folder:
        if form == "transformers":
            as_classifier(trained.model, trained.task).save_pretrained(folder)
            loaded = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False
            ).eval()
            runs["transformers"] = partial(_torch, loaded)
        else:
            write_onnx(trained.model, trained.task, folder / "model.onnx")
            quantise(folder / "model.onnx", folder / "model.int8.onnx")
            write_json(
                folder / "labels.json",
                {
                    "task": trained.task.name,
                    "labels": trained.task.labels,
                    "max_length": trained.max_length,
                },
            )
            runs |= {
                name: partial(_onnx, session(folder / f"model.{suffix}"))
                for name, suffix in (("onnx", "onnx"), ("onnx int8", "int8.onnx"))
            }
        trained.tokenizer.model_max_length = trained.max_length
        trained.tokenizer.save_pretrained(folder)
        table = compare(trained, runs)
        for row in table[table.variant.isin(FORMATS)].itertuples():
            if not row.gap <= TOLERANCE:
                raise UserError(
                    f"The exported model's logits differ by {row.gap:.1e} of the largest from the study's ({row.variant}, "
                    f"{trained.artifact.path}): nothing was written; install the tested versions (constraints.txt)."
                )
        (folder / "README.md").write_text(
            card.card(trained, form, out.name, table), encoding="utf-8"
        )
    return table


def compare(trained: Trained, runs: dict[str, Run]) -> pd.DataFrame:
    """The rows that `export` returns; without the study's dev sets, gaps and rates on made-up texts, and no metrics."""
    dev = trained.dev_sets()
    made_up = [("a word and " * n,) * len(trained.task.columns) for n in range(CHECKED)]
    some = dev[0][1] if dev else examples(trained, made_up)
    rows = {name: {"variant": name} for name in runs}
    sample = _batches(some, 8, CHECKED)
    expected = np.concatenate([runs["study"](batch) for batch in sample])
    for name, run in runs.items():
        gap = np.abs(np.concatenate([run(batch) for batch in sample]) - expected).max()
        rows[name]["gap"] = float(gap / max(1, np.abs(expected).max()))
        for split, found in dev:
            outputs = probabilities(
                trained.task,
                np.concatenate([run(batch) for batch in _batches(found, 32, len(found))]),
            )
            scored, _ = score_rows(trained.task, split, outputs, found.labels)
            rows[name] |= {f"{row['metric']}, {split}": row["value"] for row in scored}
    for size, most in ((1, 32), (32, 256)):
        for name, rate in _rates(runs, _batches(some, size, most)).items():
            rows[name][f"rate_{size}"] = rate
    return pd.DataFrame(rows.values())


def _rates(runs: dict[str, Run], batches: list[Batch], rounds: int = 3) -> dict[str, float]:
    """Examples a second, the median of some rounds; in each every variant is measured once, in turn, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            for batch in batches:
                run(batch)
            seconds[name].append(time.perf_counter() - started)
    count = sum(len(batch.labels) for batch in batches)
    return {name: count / statistics.median(found[1:]) for name, found in seconds.items()}


def _batches(found: Examples, size: int, most: int) -> list[Batch]:
    rows = np.arange(min(most, len(found)))
    return [found.batch(rows[start : start + size]) for start in range(0, len(rows), size)]


@torch.inference_mode()
def _torch(model: torch.nn.Module, batch: Batch) -> np.ndarray:
    """Logits by the study's model, or by transformers' class."""
    if hasattr(model, "heads"):
        return model(batch).numpy()
    return model(**{name: getattr(batch, name) for name in INPUTS}).logits.numpy()


def _onnx(runtime, batch: Batch) -> np.ndarray:
    given = {name: getattr(batch, name).numpy() for name in INPUTS}
    return runtime.run(None, {entry.name: given[entry.name] for entry in runtime.get_inputs()})[0]
