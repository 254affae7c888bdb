"""MT-DNN (Liu et al. 2019, arXiv:1901.11504, Figure 1): a shared encoder, one head per task."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from mtkd.config.training import HeadKind
from mtkd.data.dataset import Batch
from mtkd.errors import UserError, first_line
from mtkd.models.decoder import Step
from mtkd.models.encoders import FP32_FAMILIES, dropouts, has_segments, pooler_options, set_dropout
from mtkd.models.fast_cpu import every_position, use_fast_cpu
from mtkd.models.heads import init_head, new_head
from mtkd.tasks import Task


class TransformerEncoder(nn.Module):
    """Lexicon and Transformer encoder (l1, l2): word pieces (b, n) to vectors (b, d).

    `pooling` names the vector: the contextual embedding of [CLS] as it is (`cls`; x of MT-DNN_KD,
    Eq. 1), the same after BERT's pooler (`pooler`), or the mean over all word pieces (`mean`). The
    mean is not in the papers; it is for encoders pre-trained without a sentence-level objective.
    An encoder of a family that has no pooler gets one here, of random weights: seed first.
    """

    def __init__(self, model: PreTrainedModel, pooling: str = "cls"):
        super().__init__()
        if pooling not in ("cls", "pooler", "mean"):
            raise ValueError(f"unknown pooling '{pooling}'")
        use_fast_cpu(model, cls_only=pooling != "mean")
        self.model, self.pooling = model, pooling
        self.width = self.states_width = model.config.hidden_size
        self.initializer_range = model.config.initializer_range
        self.segments = has_segments(model)
        self.fp32 = model.config.model_type in FP32_FAMILIES
        self.pooler = None
        if pooling == "pooler" and getattr(model, "pooler", None) is None:
            self.pooler = nn.Sequential(nn.Linear(self.width, self.width), nn.Tanh())
            nn.init.normal_(self.pooler[0].weight, std=self.initializer_range)
            nn.init.zeros_(self.pooler[0].bias)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Encode a batch: (b, d)."""
        out = self._read(batch)
        if self.pooling == "mean":
            return mean_pool(out.last_hidden_state, batch.attention_mask)
        if self.pooling == "cls" or self.pooler:
            cls = out.last_hidden_state[:, 0]
            return self.pooler(cls) if self.pooler else cls
        return out.pooler_output

    def states(self, batch: Batch) -> torch.Tensor:
        """Return the contextual embeddings of all word pieces (b, n, d); padding's mean nothing."""
        with every_position(self.model):
            return self._read(batch).last_hidden_state

    @property
    def table(self) -> torch.Tensor:
        """The embeddings of word pieces (vocabulary, e)."""
        return self.model.get_input_embeddings().weight

    def _read(self, batch: Batch) -> ModelOutput:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if self.segments:
            inputs["token_type_ids"] = batch.token_type_ids
        fp32 = torch.autocast(batch.input_ids.device.type, enabled=False)
        with fp32 if self.fp32 else nullcontext():
            return self.model(**inputs)


def at_words(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the values (b, n, d) at each word's first piece: (words, d)."""
    example, position = batch.words.unbind(1)
    return values[example, position.clamp_min(0)]


def hide_cut(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the words' logits (words, classes), 0 where a word was cut off."""
    return logits.masked_fill(batch.words[:, 1:] < 0, 0)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average contextual embeddings (b, n, d) over the word pieces in `mask` (b, n): (b, d)."""
    inside = mask[..., None].to(hidden.dtype)
    return (hidden * inside).sum(1) / inside.sum(1)


@torch.inference_mode()
def ignores_padding(encoder: TransformerEncoder, pieces: list[int], pad_id: int) -> bool:
    """Tell whether a text has the same vector, without NaN, alone and beside a longer one."""
    vectors = []
    for padding in (0, 4):
        ids = torch.tensor([[*pieces, *[pad_id] * padding]])
        mask, types = torch.ones_like(ids), torch.zeros_like(ids)
        mask[:, len(pieces) :] = 0
        vectors.append(encoder(Batch("", ids, mask, types, labels=types[:, 0])))
    return torch.allclose(*vectors, atol=1e-3)


class MultiTaskModel(nn.Module):
    """A shared encoder under one linear head per task (MT-DNN_KD, Eq. 1; a score for similarity).

    `encoder` is any module with `width` and `initializer_range` that maps a `Batch` to (b, width).
    In a task with a label for each word the head reads the vectors of the words' first pieces
    (BERT, Devlin et al. 2019, section 5.3) from the encoder's `states` (b, n, states_width). A text
    is written by a decoder over them (`mtkd.models.decoder`).
    `dropout` holds each task's dropout before its head. The heads' weights are drawn here: seed
    first. `kinds` names the tasks whose head is another (`mtkd.models.heads`); it reads what the
    encoder's `states` makes of the batch, (b, n, states_width).
    """

    def __init__(
        self,
        encoder: nn.Module,
        tasks: list[Task],
        dropout: dict[str, float],
        kinds: Mapping[str, HeadKind] | None = None,
    ):
        super().__init__()
        self.kinds = {task.name: (kinds or {}).get(task.name, "linear") for task in tasks}
        self.encoder = encoder
        self.tasks = {task.name: task for task in tasks}
        self.dropout = nn.ModuleDict({task.name: nn.Dropout(dropout[task.name]) for task in tasks})
        self.heads = nn.ModuleDict(
            {task.name: new_head(self.kinds[task.name], task, encoder) for task in tasks}
        )
        for head in self.heads.values():
            init_head(head, encoder.initializer_range)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits (b, classes) of the batch's task, or scores (b, 1), in fp32.

        In a task with a label for each word, b is the number of words; one cut off has logits 0. Of
        texts to write they are the word pieces' that follow the correct ones (b, vocabulary).
        """
        head, dropout = self.heads[batch.task], self.dropout[batch.task]
        if self.kinds[batch.task] != "linear":
            return head(dropout(self.encoder.states(batch)), batch).float()
        if batch.words is not None:
            if self.tasks[batch.task].generates:
                return head(*self._source(batch)).float()
            vectors = at_words(self.encoder.states(batch), batch)
            return hide_cut(head(dropout(vectors)).float(), batch)
        return head(dropout(self.encoder(batch))).float()

    def begin(self, batch: Batch, beams: int) -> Step:
        """Return what continues texts piece by piece (`TextDecoder.begin`)."""
        return self.heads[batch.task].begin(*self._source(batch), beams)

    def _source(self, batch: Batch) -> tuple[torch.Tensor, Batch, torch.Tensor]:
        """Return what a decoder reads: states, batch and the table of word pieces."""
        states = self.dropout[batch.task](self.encoder.states(batch))
        return states, batch, self.encoder.table

    def save(self, path: Path) -> None:
        """Write all weights to a safetensors file."""
        safetensors.torch.save_model(self, str(path))

    def load(self, path: Path, heads: bool | list[str] = True) -> None:
        """Load the encoder's weights, and those of all heads, none (False) or those named.

        Raises `UserError` where the file is damaged, or its encoder or heads do not fit this model.
        """
        try:
            weights = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            why = f"is not a readable model file ({error})"
            raise UserError(f"{path} {why}: run the stage that makes it again.") from None
        state = self.state_dict()
        names = list(self.heads) if heads is True else heads or []
        for name in names:
            self._check_head(path, name, weights)
        prefixes = ("encoder.", *(f"heads.{name}." for name in names))
        shapes, wanted = (
            {name: tensor.shape for name, tensor in tensors.items() if name.startswith(prefixes)}
            for tensors in (weights, state)
        )
        if shapes != wanted:
            wrong = min(name for name, _ in shapes.items() ^ wanted.items())
            other = f"another encoder ({wrong} is missing, unknown or of another shape)"
            raise UserError(f"{path} holds {other}: use the encoder that it was trained with.")
        self.load_state_dict({name: weights[name] for name in wanted}, strict=False)

    def _check_head(self, path: Path, name: str, weights: dict[str, torch.Tensor]) -> None:
        """Raise `UserError` where a file has no head for a task, or one of another kind or size.

        Another width is the encoder's, which is checked afterwards.
        """
        prefix = f"heads.{name}."
        has, needs = (
            {key: value.numel() for key, value in tensors.items() if key.startswith(prefix)}
            for tensors in (weights, self.state_dict())
        )
        outputs = next(key for key in needs if key.endswith(".bias"))
        if has and has.keys() != needs.keys():
            kind = f"another kind of head for '{name}' than this model's, {self.kinds[name]}"
            raise UserError(f"{path} has {kind}: set model.heads as it was trained.")
        if has.get(outputs) != needs[outputs]:
            held = f"a head for {has[outputs]} outputs" if has else "no head"
            needed = f"for '{name}', this model needs one for {self.tasks[name].num_outputs}"
            raise UserError(f"{path} has {held} {needed}: train the tasks together.")
        if (longest := f"{prefix}positions.weight") in needs:
            held, needed = len(weights[longest]) - 1, self.tasks[name].max_target
            if held != needed:
                texts = (
                    f"a head for texts of {held} pieces for '{name}', this model's have {needed}"
                )
                raise UserError(f"{path} has {texts}: set max_target as it was trained.")

    def parameter_count(self) -> int:
        """Return the number of parameters, embeddings included."""
        return sum(parameter.numel() for parameter in self.parameters())


def load_encoder(
    source: str | Path, *, dropout: float, pooling: str = "cls", weights: bool = True
) -> TransformerEncoder:
    """Load a pre-trained encoder from a folder or the hub, from safetensors only.

    Without `weights` it has the configuration alone, for weights that are loaded afterwards.
    `dropout` is that of hidden layers and attention alike (MT-DNN_KD, section 4.1). No code from
    the folder is run. Raises `UserError` where it cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        set_dropout(config, dropout)
        options = {"trust_remote_code": False, "dtype": torch.float32}
        options |= pooler_options(config, pooling)
        if weights:
            safe = {"use_safetensors": True}
            model = AutoModel.from_pretrained(source, config=config, **options, **safe)
        else:
            model = AutoModel.from_config(config, **options)
        if wrong := [name for name, p in dropouts(model).items() if p != dropout]:
            raise ValueError(f"the dropout of {wrong[0]} is not {dropout} as set")
    except Exception as error:  # transformers raises many kinds for what a folder may hold
        mend = "give a folder with config.json, model.safetensors and tokenizer.json, or a hub id"
        why = f"cannot be loaded ({first_line(error)})"
        raise UserError(f"The encoder at {source} {why}: {mend}.") from None
    return TransformerEncoder(model, pooling)
