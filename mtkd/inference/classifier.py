"""Export of a task's model to transformers' format.

A BERT's head on [CLS] becomes a `BertForSequenceClassification`. A head on the mean over word
pieces fits no class of transformers, and the classes of other families put layers of their own
between: such a folder holds the encoder for `AutoModel`, as sentence-transformers' models do, and
the head in `classifier.safetensors`; the model card shows its use. In tasks with a label for each
word, transformers' classes for tokens and for answers have the same head, on every word piece.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForSequenceClassification,
    BertModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models.encoders import has_segments, pooler_options
from mtkd.models.multitask import MultiTaskModel, TransformerEncoder, at_words, hide_cut
from mtkd.tasks import Task

HEAD = "classifier.safetensors"
WORD_CLASSES = {"tokens": AutoModelForTokenClassification, "span": AutoModelForQuestionAnswering}
OPTIONS = {"dtype": torch.float32, "trust_remote_code": False}


def export_transformers(
    model: MultiTaskModel, task: Task, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> Callable[[Batch], np.ndarray]:
    """Write one task's model and its tokenizer to `folder`.

    Returns:
        The model as loaded from `folder`: a batch to fp32 logits (b, classes), or scores (b, 1).

    Raises:
        UserError: transformers has no class for the encoder or the head.
    """
    if not isinstance(model.encoder, TransformerEncoder):
        raise UserError(
            f"The encoder ({type(model.encoder).__name__}) has no class in transformers: "
            "use --format onnx."
        )
    if model.kinds[task.name] != "linear":
        raise UserError(
            f"The head of {task.title} ({model.kinds[task.name]}) has no class in transformers: "
            "use --format onnx."
        )
    encoder, pooling, head = model.encoder.model, model.encoder.pooling, model.heads[task.name]
    labels = dict(enumerate(task.labels or ("score",)))
    problem = "regression" if task.num_outputs == 1 else "single_label_classification"
    problem = None if task.by_word else problem
    settings = encoder.config.to_dict() | {"id2label": labels, "problem_type": problem}
    settings |= {"label2id": {label: i for i, label in labels.items()}, "dtype": "float32"}
    config = type(encoder.config).from_dict(settings)
    tokenizer.save_pretrained(folder)
    if task.by_word:
        _words_classifier(model, config, task).save_pretrained(folder)
        return _load_words_classifier(folder, task)
    if has_class(model.encoder):
        _sequence_classifier(model, config, head).save_pretrained(folder)
        return _load_classifier(folder)
    try:
        plain = AutoModel.from_config(config, **pooler_options(config, "cls"))
        plain.load_state_dict(_without_pooler(encoder.state_dict()))
    except (RuntimeError, ValueError):
        raise UserError(
            f"transformers cannot hold these layers of a {type(encoder).__name__} alone: "
            "use --format onnx."
        ) from None
    plain.save_pretrained(folder)
    weights = head.state_dict() | _pooler_weights(model.encoder)
    save_file(weights, folder / HEAD, metadata={"format": "pt"})
    return _load_encoder(folder, pooling)


def _words_classifier(
    model: MultiTaskModel, config: PreTrainedConfig, task: Task
) -> PreTrainedModel:
    """Return transformers' model with a head on every word piece, of which words' first count."""
    encoder, head = model.encoder.model, model.heads[task.name]
    try:
        classifier = WORD_CLASSES[task.kind].from_config(config)
        classifier.base_model.load_state_dict(_without_pooler(encoder.state_dict()))
        last = classifier.qa_outputs if task.kind == "span" else classifier.classifier
        last.load_state_dict(head.state_dict())
        mine = {*classifier.base_model.parameters(), *last.parameters()}
        if set(classifier.parameters()) - mine:
            raise ValueError("there is another layer between")
    except (AttributeError, RuntimeError, ValueError):
        raise UserError(
            f"transformers has no class for the words of a {type(encoder).__name__}: "
            "use --format onnx."
        ) from None
    return classifier


def _load_words_classifier(folder: Path, task: Task) -> Callable[[Batch], np.ndarray]:
    loaded = WORD_CLASSES[task.kind].from_pretrained(folder, **OPTIONS).eval()
    segments = has_segments(loaded.base_model)

    @torch.inference_mode()
    def logits(batch: Batch) -> np.ndarray:
        types = {"token_type_ids": batch.token_type_ids} if segments else {}
        out = loaded(batch.input_ids, attention_mask=batch.attention_mask, **types)
        pieces = [out.start_logits, out.end_logits] if task.kind == "span" else None
        values = torch.stack(pieces, dim=-1) if pieces else out.logits
        return hide_cut(at_words(values, batch), batch).numpy()

    return logits


def has_class(encoder: nn.Module) -> bool:
    """Tell whether transformers has a class for the encoder with a head on it."""
    is_bert = isinstance(getattr(encoder, "model", None), BertModel)
    return is_bert and encoder.pooling != "mean"


def leaves_out_pooler(encoder: nn.Module) -> bool:
    """Tell whether transformers is to be told to leave out a pooler."""
    return hasattr(encoder, "model") and bool(pooler_options(encoder.model.config, "cls"))


def _without_pooler(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith("pooler.")}


def _pooler_weights(encoder: TransformerEncoder) -> dict[str, torch.Tensor]:
    """Return the linear map of the pooler that is read, the model's or the project's own."""
    if encoder.pooling != "pooler":
        return {}
    modules = (encoder.pooler or encoder.model.pooler).modules()
    linear = next(module for module in modules if isinstance(module, nn.Linear))
    return {f"pooler.{name}": value for name, value in linear.state_dict().items()}


@torch.no_grad()
def _sequence_classifier(model: MultiTaskModel, config: PreTrainedConfig, head: nn.Linear):
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


def _load_classifier(folder: Path) -> Callable[[Batch], np.ndarray]:
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, **OPTIONS).eval()
    segments = has_segments(loaded.base_model)

    @torch.inference_mode()
    def logits(batch: Batch) -> np.ndarray:
        types = {"token_type_ids": batch.token_type_ids} if segments else {}
        return loaded(batch.input_ids, attention_mask=batch.attention_mask, **types).logits.numpy()

    return logits


def _load_encoder(folder: Path, pooling: str) -> Callable[[Batch], np.ndarray]:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    loaded = AutoModel.from_pretrained(folder, **pooler_options(config, "cls"), **OPTIONS)
    encoder = TransformerEncoder(loaded, "mean" if pooling == "mean" else "cls").eval()
    head = load_file(folder / HEAD)

    @torch.inference_mode()
    def logits(batch: Batch) -> np.ndarray:
        vector = encoder(batch)
        if pooling == "pooler":
            vector = torch.tanh(vector @ head["pooler.weight"].T + head["pooler.bias"])
        return (vector @ head["weight"].T + head["bias"]).numpy()

    return logits
