"""Export a trained model in transformers' format or as ONNX, with a model card."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mtkd.artifacts import write_json, writing
from mtkd.data.dataset import Batch, Examples
from mtkd.errors import UserError
from mtkd.inference.classifier import export_transformers
from mtkd.inference.load import TrainedModel
from mtkd.inference.model_card import model_card
from mtkd.inference.onnx import export_onnx
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages.fit import known_labels
from mtkd.tasks import TOP
from mtkd.training.generate import with_rouge, write
from mtkd.training.predict import most_probable, probabilities, score_rows

FORMATS = ("transformers", "onnx")
TOLERANCE = 1e-4  # of logits, relative to the largest where that is above 1
BATCH_SIZE = 32


def export(
    trained: TrainedModel,
    out: Path,
    export_format: str = "transformers",
    repository: str | None = None,
) -> pd.DataFrame:
    """Write a model for one task to a new folder, complete or not at all.

    transformers: `config.json`, `model.safetensors` and the tokenizer; a mean-pooled encoder has
    its head in `classifier.safetensors`. onnx: `model.onnx`, `model.int8.onnx` (dynamic
    quantisation), `labels.json` and the tokenizer. `README.md` is the model card; it names the
    `repository` of the hub where the folder is to go.

    Returns:
        What `compare` returns for the study's model and the exported ones.

    Raises:
        UserError: An unknown format, a folder that is not empty, a model that the format cannot
            hold, or logits that differ from those of the study's model.
    """
    if export_format not in FORMATS:
        raise UserError(f"--format {export_format}: the formats are {' and '.join(FORMATS)}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: give a new folder.")
    model, task, tokenizer = trained.model, trained.task, trained.tokenizer
    if task.generates and export_format == "transformers":
        raise UserError(
            f"{task.title} is of type text, and transformers has no class with its decoder: give "
            "--format onnx."
        )
    tokenizer.model_max_length = trained.max_length
    # What the model reads is what the tokenizer is to give; saved are names that it was made with.
    tokenizer.model_input_names = trained.input_names
    tokenizer.init_kwargs["model_input_names"] = trained.input_names
    with writing(out.absolute()) as folder:
        if export_format == "transformers":
            exported = {export_format: export_transformers(model, task, tokenizer, folder)}
        else:
            exported = export_onnx(model, task, folder)
            tokenizer.save_pretrained(folder)
            labels = {"task": task.name, "labels": task.labels, "max_length": trained.max_length}
            labels |= {"max_target": task.max_target} if task.generates else {}
            write_json(folder / "labels.json", labels)
        table = compare(trained, {"study": _Study(model)} | exported)
        gap = table.gap[table.variant == export_format].item()
        if not gap <= TOLERANCE:
            raise UserError(
                f"The exported model's logits differ from the study's by {gap:.1e} ({out}): "
                "nothing was written; install the tested versions (constraints.txt)."
            )
        card = model_card(trained, export_format, out.name, table, repository)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return table


class _Study:
    """The study's model, used as an exported one is."""

    def __init__(self, model: MultiTaskModel):
        self.model, self.begin = model, model.begin

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> np.ndarray:
        return self.model(batch).numpy()


def compare(
    trained: TrainedModel, variants: dict[str, Callable[[Batch], np.ndarray]]
) -> pd.DataFrame:
    """Run variants of a model, the study's first, on the task's dev sets, on one thread.

    Columns: variant, gap (largest difference of a logit from the study's, relative to the largest
    where that is above 1), the task's metrics by split (percent), and rate (examples per second in
    batches of 32). Of texts to write, the gap is of the next pieces' largest log-probabilities, and
    the rate that of writing.
    """
    task, dev_sets, rows, expected = trained.task, trained.dev_sets(), [], None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, run in variants.items():
        row, every, seconds = {"variant": name}, [], 0.0
        for split, examples in dev_sets:
            started = time.perf_counter()
            every.append(_logits(run, examples))
            if task.generates:
                examples = examples.replace(tokenizer=trained.tokenizer)
                started = time.perf_counter()
                outputs = with_rouge(examples, write([(run.begin, examples)]))
            else:
                outputs = probabilities(task, every[-1], examples.idx)
            seconds += time.perf_counter() - started
            scores, _ = score_rows(task, split, outputs, *known_labels(examples))
            row |= {f"{score['metric']}, {split}": score["value"] for score in scores}
        logits = np.concatenate(every)
        expected = logits if expected is None else expected
        gap = np.abs(logits - expected).max() / max(1.0, np.abs(expected).max())
        count = sum(len(examples) for _, examples in dev_sets)
        rows.append({"variant": name, "gap": gap} | row | {"rate": count / seconds})
    torch.set_num_threads(threads)
    return pd.DataFrame(rows)


def _logits(run: Callable[[Batch], np.ndarray], examples: Examples) -> np.ndarray:
    parts = np.array_split(np.arange(len(examples)), -(-len(examples) // BATCH_SIZE))
    batches = (run(examples.batch(part)) for part in parts)
    if examples.task.generates:  # in order: two that are almost as probable may change places
        batches = (most_probable(torch.from_numpy(logits))[:, TOP:].numpy() for logits in batches)
    return np.concatenate([*batches])
