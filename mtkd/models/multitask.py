"""MT-DNN (Figure 1): one shared encoder, a head a task."""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from mtkd.data.dataset import Batch
from mtkd.errors import UserError, first_line
from mtkd.models.fast_cpu import lighten, read_first
from mtkd.tasks import Task


class TransformerEncoder(nn.Module):
    """Lexicon and Transformer encoder (l1, l2): word pieces (b, n) to one vector an example (b, width).

    The vector is the contextual embedding of [CLS] as it is (`cls`, Eq. 1's x), after BERT's pooler (`pooled`), or what is not
    in the paper, for encoders pre-trained without a sentence-level objective, whose [CLS] holds nothing yet: the mean over
    all word pieces (`mean`).
    """

    def __init__(self, model: PreTrainedModel, pooling: str = "cls"):
        super().__init__()
        if pooling not in ("cls", "pooler", "mean"):
            raise ValueError(f"there is no pooling '{representation}'")
        self.model, self.pooling = lighten(model), pooling
        self.read_first_alone()
        self.width = model.config.hidden_size
        self.initializer_range = model.config.initializer_range

    def read_first_alone(self) -> None:
        """Has the last layer computed at [CLS] alone where nothing reads its other places."""
        if self.pooling in ("cls", "pooler"):
            read_first(self.model)

    def forward(self, batch: Batch) -> torch.Tensor:
        out = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
        )
        if self.pooling == "mean":
            return mean_of(out.last_hidden_state, batch.attention_mask)
        return out.last_hidden_state[:, 0] if self.pooling == "cls" else out.pooler_output


def mean_of(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the contextual embeddings (b, n, d) over word pieces: (b, d)."""
    inside = mask[..., None].to(hidden.dtype)
    return (hidden * inside).sum(1) / inside.sum(1)


class MultiTaskModel(nn.Module):
    """A shared encoder under one linear head a task (Eq. 1; a score for similarity).

    `encoder` is any module with `width` and `initializer_range` that maps a `Batch` to (b, width). `dropout` holds each
    task's dropout before its head. The heads' weights are drawn here: seed first.
    """

    def __init__(self, encoder: nn.Module, tasks: list[Task], dropout: dict[str, float]):
        super().__init__()
        self.encoder = encoder
        self.tasks = {task.name: task for task in tasks}
        self.dropout = nn.ModuleDict({task.name: nn.Dropout(dropout[task.name]) for task in tasks})
        self.heads = nn.ModuleDict(
            {task.name: nn.Linear(encoder.width, task.num_outputs) for task in tasks}
        )
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=encoder.initializer_range)
            nn.init.zeros_(head.bias)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (b, classes) of the batch's task, or scores (b, 1), in fp32."""
        shared = self.encoder(batch)
        return self.heads[batch.task](self.dropout[batch.task](shared)).float()

    def save(self, path: Path) -> None:
        safetensors.torch.save_model(self, str(path))

    def load(self, path: Path, heads: bool | list[str] = True) -> None:
        """Weights from `save`'s file; without `heads` only the shared encoder's, or beside them those of the tasks named.

        Raises `UserError` where the file is damaged, or its encoder or heads do not fit this model.
        """
        try:
            weights = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path} is not a readable model file ({error}): run the stage that makes it again."
            ) from None
        own = dict(self.state_dict())
        names = list(self.heads) if heads is True else heads or []
        for name in names:
            found = weights.get(f"heads.{name}.weight")
            if found is None or found.shape != own[f"heads.{name}.weight"].shape:
                has = "has no head" if found is None else f"has a head for {found.shape[0]} outputs"
                raise UserError(
                    f"{path} {has} for '{name}', this model needs one for {self.tasks[name].num_outputs}: it was trained for "
                    "other tasks; start from the encoder alone or train the tasks together."
                )
        wanted = {
            name
            for name in own
            if name.startswith(("encoder.", *(f"heads.{head}." for head in names)))
        }
        misfits = {
            name for name in wanted if name not in weights or weights[name].shape != own[name].shape
        }
        misfits |= {name for name in weights if name.startswith("encoder.") and name not in own}
        if misfits:
            raise UserError(
                f"{path} holds another encoder ({min(misfits)} is missing, too many or of another shape): use the encoder that "
                "it was trained with."
            )
        self.load_state_dict(
            {name: weights.get(name, own[name]) if name in wanted else own[name] for name in own}
        )

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def load_encoder(source: str | Path, *, dropout: float, pooling: str = "cls") -> TransformerEncoder:
    """A pre-trained encoder from a folder; `dropout` is that of hidden layers and attention alike (section 4.1).

    Weights are read from safetensors only and no code from the folder is run.
    """
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        extra = {} if pooling == "pooler" else {"add_pooling_layer": False}
        model = AutoModel.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            **extra,
        )
    except Exception as error:  # transformers raises many kinds for what a folder may hold
        raise UserError(
            f"The encoder at {source} cannot be loaded ({first_line(error)}): give a folder with config.json, "
            "model.safetensors and tokenizer.json, or a hub id."
        ) from None
    return TransformerEncoder(model, pooling)
