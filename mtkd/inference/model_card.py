"""The model card of an exported model: use, training, scores with intervals, limits, licence."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import ModelCard, ModelCardData

from mtkd.artifacts import read
from mtkd.errors import UserError
from mtkd.inference.classifier import has_class, leaves_out_pooler
from mtkd.inference.load import TrainedModel
from mtkd.stages import data
from mtkd.training import metrics

TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"


def model_card(
    trained: TrainedModel,
    export_format: str,
    name: str,
    table: pd.DataFrame,
    repository: str | None = None,
) -> str:
    """Return the README.md of an export; `table` is what `compare` returned (see export.py)."""
    texts = ", ".join(['"a text"', '"another text"'][: len(trained.task.columns)])
    pipeline = {
        "tokens": "token-classification",
        "span": "question-answering",
        "text": "text2text-generation",
    }
    record, sizes, source = trained.artifact.record, [], None
    with suppress(UserError):  # the study's examples may be gone
        examples = read(trained.study_folder / data.NAME)
        source = examples.record["inputs"]["depends"]["data"]["source"]
        sizes = examples.frame("sizes.csv").query("task == @trained.task.name and examples > 0")
        sizes = sizes.to_dict("records")
    card_data = ModelCardData(
        library_name=export_format,
        pipeline_tag=pipeline.get(trained.task.kind, "text-classification"),
        tags=["mtkd", "knowledge-distillation"],
        model_name=name,
    )
    card = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        name=name,
        repository=repository,
        trained=trained,
        version=record["made_by"]["mtkd"],
        origin=trained.encoder.json("origin.json"),
        settings=json.dumps(record["inputs"]["depends"], indent=1),
        sizes=sizes,
        source=source,
        scores=scores_with_intervals(trained),
        table=table,
        export_format=export_format,
        texts=texts,
        marks_second=len(trained.task.columns) == 2 and trained.lacks_segments,
        has_class=has_class(trained.model.encoder),
        leaves_out_pooler=leaves_out_pooler(trained.model.encoder),
    )
    return str(card)


def scores_with_intervals(trained: TrainedModel) -> list[dict]:
    """Return a row per dev split and metric: split, metric, value, low, high (percent) and n.

    The interval (95 %) is a bootstrap over examples.
    """
    task = trained.task
    predictions = trained.artifact.frame("predictions.parquet")
    rows, predictions = [], predictions[predictions.split.isin(task.dev)]
    for split, part in predictions[predictions.task == task.name].groupby("split", sort=False):
        outputs, labels = np.stack(part.outputs), part.label.to_numpy()
        idx = part.idx.to_numpy()
        values, _ = metrics.score(task, outputs, labels, idx)
        for metric, (low, high) in metrics.intervals(task, outputs, labels, idx).items():
            interval = {"value": values[metric], "low": low, "high": high}
            rows.append({"split": split, "metric": metric, "n": len(np.unique(idx))} | interval)
    return rows
