"""Export of a task's model to transformers' format.

A head on [CLS] becomes a `BertForSequenceClassification`. A head on the mean over word pieces fits
no class of transformers: its folder holds the encoder for `AutoModel`, as sentence-transformers'
models do, and the head in `classifier.safetensors`; the model card shows its use.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerBase,
)

from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models.multitask import MultiTaskModel, mean_pool
from mtkd.tasks import Task

HEAD = "classifier.safetensors"


def export_transformers(
    model: MultiTaskModel, task: Task, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> Callable[[Batch], np.ndarray]:
    """Write one task's model and its tokenizer to `folder`.

    Returns:
        The model as loaded from `folder`: a batch to fp32 logits (b, classes), or scores (b, 1).

    Raises:
        UserError: the encoder is no BERT.
    """
    encoder = getattr(model.encoder, "model", None)
    if not isinstance(encoder, BertModel):
        raise UserError(
            f"The encoder ({type(encoder or model.encoder).__name__}) is no BERT, and transformers "
            "has no class for it: use --format onnx."
        )
    labels = dict(enumerate(task.labels or ("score",)))
    problem = "regression" if task.regression else "single_label_classification"
    settings = encoder.config.to_dict() | {"id2label": labels, "problem_type": problem}
    settings |= {"label2id": {label: i for i, label in labels.items()}, "dtype": "float32"}
    config, head = BertConfig.from_dict(settings), model.heads[task.name]
    tokenizer.save_pretrained(folder)
    if model.encoder.pooling == "mean":
        plain = BertModel(config, add_pooling_layer=False)
        plain.load_state_dict(encoder.state_dict())
        plain.save_pretrained(folder)
        save_file(head.state_dict(), folder / HEAD, metadata={"format": "pt"})
    else:
        _sequence_classifier(model, config, head).save_pretrained(folder)
    return _load(folder)


@torch.no_grad()
def _sequence_classifier(model: MultiTaskModel, config: BertConfig, head: torch.nn.Linear):
    """Return transformers' classifier, whose head sees tanh(P·x + p) of [CLS], BERT's pooler.

    A head on [CLS] itself becomes that: near 0 tanh(z) is z to within z³/3, so that P holds the
    head's rows times 2^-14 and the classifier undoes the scale, which is exact.
    """
    classifier = BertForSequenceClassification(config)
    classifier.bert.load_state_dict(model.encoder.model.state_dict(), strict=False)
    classifier.classifier.load_state_dict(head.state_dict())
    if model.encoder.pooling == "cls":
        pooler, scale = classifier.bert.pooler.dense, 2.0**-14
        pooler.weight.zero_()
        pooler.bias.zero_()
        pooler.weight[: head.out_features] = scale * head.weight
        classifier.classifier.weight.zero_().fill_diagonal_(1 / scale)
    return classifier


def _load(folder: Path) -> Callable[[Batch], np.ndarray]:
    options = {"dtype": torch.float32, "trust_remote_code": False}
    mean = (folder / HEAD).exists()
    if mean:
        loaded = AutoModel.from_pretrained(folder, add_pooling_layer=False, **options).eval()
        head = load_file(folder / HEAD)
    else:
        loaded = AutoModelForSequenceClassification.from_pretrained(folder, **options).eval()

    @torch.inference_mode()
    def logits(batch: Batch) -> np.ndarray:
        mask = batch.attention_mask
        out = loaded(batch.input_ids, attention_mask=mask, token_type_ids=batch.token_type_ids)
        if not mean:
            return out.logits.numpy()
        pooled = mean_pool(out.last_hidden_state, mask)
        return (pooled @ head["weight"].T + head["bias"]).numpy()

    return logits
