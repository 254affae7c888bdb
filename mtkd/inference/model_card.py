"""The model card of an exported model: use, training, scores with intervals, limits, licence."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mtkd import tasks
from mtkd.artifacts import Artifact, read
from mtkd.errors import UserError
from mtkd.inference.classifier import MEAN_POOLING_SNIPPET
from mtkd.inference.load import TrainedModel
from mtkd.stages import data
from mtkd.training import metrics

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"


def model_card(trained: TrainedModel, export_format: str, name: str, table: pd.DataFrame) -> str:
    """Return the README.md of an export.

    Args:
        trained: the model.
        export_format: "transformers" or "onnx".
        name: of the exported model.
        table: what `mtkd.inference.export.compare` returns.
    """
    scores = scores_with_intervals(trained)
    texts = ", ".join(['"a text"', '"another text"'][: len(trained.task.columns)])
    examples = _study_data(trained)
    source = examples and examples.record["inputs"]["depends"]["data"]["source"]
    card_data = ModelCardData(
        library_name=export_format,
        pipeline_tag="text-classification",
        tags=["mtkd", "knowledge-distillation"],
        model_name=name,
        eval_results=[_eval_result(trained, row, source) for row in scores] if source else None,
    )
    card = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        name=name,
        trained=trained,
        version=trained.artifact.record["made_by"]["mtkd"],
        origin=trained.encoder.json("origin.json"),
        settings=json.dumps(trained.artifact.record["inputs"]["depends"], indent=1),
        sizes=_sizes(examples, trained.task.name) if examples else [],
        source=source,
        scores=scores,
        table=table,
        export_format=export_format,
        mean_pooling=MEAN_POOLING_SNIPPET.format(folder=name, texts=texts).rstrip(),
        texts=texts,
    )
    return str(card)


def scores_with_intervals(trained: TrainedModel) -> list[dict]:
    """Return a row per dev split and metric: split, metric, value, low, high (percent) and n.

    The interval (95 %) is a bootstrap over examples.
    """
    task = trained.task
    predictions = trained.artifact.frame("predictions.parquet")
    rows = []
    for split, part in predictions[predictions.task == task.name].groupby("split", sort=False):
        outputs, labels = np.stack(part.outputs), part.label.to_numpy()
        values, _ = metrics.score(task, outputs, labels)
        for metric, (low, high) in metrics.intervals(task, outputs, labels).items():
            interval = {"value": values[metric], "low": low, "high": high}
            rows.append({"split": split, "metric": metric, "n": len(labels)} | interval)
    return rows


def _study_data(trained: TrainedModel) -> Artifact | None:
    """Return the artifact of the study's examples, if it is still there."""
    try:
        return read(trained.study_folder / data.NAME)
    except UserError:
        return None


def _sizes(examples: Artifact, task: str) -> list[dict]:
    sizes = examples.frame("sizes.csv")
    return sizes[(sizes.task == task) & (sizes.examples > 0)].to_dict("records")


def _eval_result(trained: TrainedModel, row: dict, source: str) -> EvalResult:
    task = trained.task
    glue = source != "synthetic" and task.name in tasks.GLUE
    return EvalResult(
        task_type="text-classification",
        dataset_type="nyu-mll/glue" if glue else "other",
        dataset_name=task.title if glue or source != "synthetic" else f"{task.title} (synthetic)",
        dataset_config=task.name,
        dataset_split=row["split"],
        metric_type=row["metric"],
        metric_value=round(row["value"], 2),
    )
