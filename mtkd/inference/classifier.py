"""A task's model as transformers' own `BertForSequenceClassification`, with equal logits and no code beside it.

That class shows its linear head one thing: tanh(P·x + p) of [CLS], BERT's pooler. A head that sees the `pooled` vector
is that already. The two others are expressed in its terms, to the rounding of fp32:

- `cls`: near zero tanh(z) = z to within z³ / 3. The pooler holds the head's own rows times 2^-14, the classifier undoes
  the scale (a power of two: exact).
- `mean`: one more layer takes the mean. Its queries are zero, so that every word piece attends evenly to all; its
  values are the logits of single word pieces, so that [CLS] receives the mean of these, which is the logits of the mean.
  They must pass the residual connection and two layer norms unharmed: each logit l is written as the pair (A·l, -A·l),
  beside the constant pair (A·c, -A·c), with A so large that the residual vanishes beside it and c so large that the norm's
  deviation is that of the constants alone. The feed-forward part is zero. The pooler reads half the difference of
  each pair. A layer more is the price, and such a model is for use, not for further training, in fp32 or bf16 (fp16 has no
  room for A·c).
"""

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

from mtkd.errors import UserError
from mtkd.models.multitask import MultiTaskModel
from mtkd.tasks import Task

SMALL = 2.0**-14
LOGIT, CONSTANT = 2.0**30, 2.0**18  # A and c


@torch.no_grad()
def as_classifier(model: MultiTaskModel, task: Task) -> BertForSequenceClassification:
    """A `BertForSequenceClassification` whose logits (b, classes), or score (b, 1), are those of the task's head.

    Raises `UserError` where the encoder is no BERT, compares texts itself, or is too narrow for the task's classes under `mean`.
    """
    inner = getattr(model.encoder, "model", None)
    if not isinstance(inner, BertModel):
        kind = type(model.encoder if inner is None else inner).__name__
        raise UserError(
            f"This model's encoder ({kind}) is no BERT, and transformers has no class that holds it: export it with --format "
            "onnx."
        )
    config, head, kind = inner.config, model.heads[task.name], model.encoder.pooling
    if kind == "mean" and 2 * task.num_outputs + 2 > config.hidden_size:
        raise UserError(
            f"A mean over word pieces of width {config.hidden_size} has no room in transformers' format for the "
            f"{task.num_outputs} classes of {task.title}: export it with --format onnx."
        )
    names = dict(enumerate(task.labels or ("score",)))
    found = BertForSequenceClassification(
        BertConfig.from_dict(
            config.to_dict()
            | {
                "num_hidden_layers": config.num_hidden_layers + (kind == "mean"),
                "id2label": names,
                "label2id": {label: number for number, label in names.items()},
                "architectures": None,
                "dtype": "float32",
                "problem_type": "regression" if task.regression else "single_label_classification",
            }
        )
    )
    found.bert.load_state_dict(inner.state_dict(), strict=False)
    found.classifier.bias.copy_(head.bias)
    if kind == "pooler":
        found.classifier.weight.copy_(head.weight)
        return found.eval()
    pooler, scale = found.bert.pooler.dense, 1 / SMALL
    for parameter in (*pooler.parameters(), found.classifier.weight):
        parameter.zero_()
    if kind == "cls":
        pooler.weight[: task.num_outputs] = SMALL * head.weight
    else:
        _take_mean(found.bert.encoder.layer[-1], head.weight)
        for row in range(task.num_outputs):
            pooler.weight[row, 2 * row], pooler.weight[row, 2 * row + 1] = 0.5, -0.5
        scale = CONSTANT * (2 / config.hidden_size) ** 0.5
    found.classifier.weight.fill_diagonal_(scale)
    return found.eval()


def _take_mean(layer: nn.Module, head: torch.Tensor) -> None:
    """Makes of a BERT layer one that writes the mean of every word piece's `head` (outputs, d) in pairs, as told above."""
    for parameter in layer.parameters():
        parameter.zero_()
    value, output, norm = (
        layer.attention.self.value,
        layer.attention.output.dense,
        layer.attention.output.LayerNorm,
    )
    outputs = len(head)
    value.weight[:outputs] = head
    for row in range(outputs):
        output.weight[2 * row, row], output.weight[2 * row + 1, row] = LOGIT, -LOGIT
    output.bias[-2], output.bias[-1] = LOGIT * CONSTANT, -LOGIT * CONSTANT
    norm.weight[: 2 * outputs] = norm.weight[-2:] = 1
    layer.output.LayerNorm.weight.fill_(1)
