"""The encoder of a student of MKD, by its settings."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from mtkd.config.mkd import LstmStudent, TransformerStudent
from mtkd.data.dataset import vocabulary_size
from mtkd.errors import UserError
from mtkd.models.encoders import layers_of, max_positions, projections, read_config, without_weights
from mtkd.models.lstm import BiAttentiveEncoder, check_width
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.models.small_transformer import (
    check_checkpoint,
    check_layers,
    from_checkpoint,
    keep_layers,
    new_encoder,
)


def student_encoder(
    settings: LstmStudent | TransformerStudent,
    folder: Path,
    pooling: str,
    table: Callable[[], torch.Tensor],
    max_length: int,
    teacher: Callable[[], Path] | None = None,
) -> nn.Module:
    """Return a student's encoder, drawn from torch's state where its weights are random.

    Args:
        settings: its shape, and where its weights come from.
        folder: the teacher's pre-trained encoder, in transformers' format.
        pooling: of a Transformer, as in `model.pooling`.
        table: returns an LSTM's embeddings (word pieces, e).
        max_length: the study's `data.max_length`.
        teacher: returns the file of the teacher's weights, for a student that starts from them;
            None builds the shape alone.
    """
    if isinstance(settings, LstmStudent):
        return BiAttentiveEncoder(
            table(),
            hidden=settings.hidden,
            layers=settings.layers,
            output=settings.output_dim,
            dropout=settings.dropout,
        )
    shape = {"dropout": settings.dropout, "pooling": pooling}
    if settings.init_from == "new":
        sizes = settings.model_dump(include={"layers", "hidden", "heads", "intermediate"})
        return new_encoder(folder, max_length, **sizes, **shape)
    if settings.init_from == "checkpoint":
        return from_checkpoint(settings.checkpoint, _vocabulary_sizes(folder), **shape)
    encoder = load_encoder(folder, **shape)
    if settings.init_from == "teacher" and teacher is not None:
        MultiTaskModel(encoder, [], {}).load(teacher(), heads=False)
    return keep_layers(encoder, settings.kept_layers)


def trained_encoder(
    settings: LstmStudent | TransformerStudent,
    folder: Path,
    pooling: str,
    weights: Path,
    max_length: int,
) -> nn.Module:
    """Return a student's encoder for the trained `weights` of a file, which are not loaded yet."""

    def table() -> torch.Tensor:
        return torch.zeros_like(load_file(weights)["encoder.embeddings.weight"])

    return student_encoder(settings, folder, pooling, table, max_length)


def _vocabulary_sizes(folder: Path) -> set[int]:
    """Return the numbers of word pieces of a teacher's tokenizer and of its embeddings."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return {vocabulary_size(tokenizer), read_config(folder).vocab_size}


def check_student(
    settings: LstmStudent | TransformerStudent, folder: Path, max_length: int, layerwise: list[str]
) -> None:
    """Raise `UserError` for a student that the teacher's encoder in `folder` does not allow.

    Nothing is trained or loaded for that, so that it can be said before there is a teacher.
    """
    teacher = without_weights(read_config(folder))
    if isinstance(settings, LstmStudent):
        if settings.embeddings == "teacher":
            check_width(settings.embedding_dim, teacher.get_input_embeddings().embedding_dim)
    elif settings.checkpoint:
        longest = min(max_length, max_positions(teacher) or max_length)
        config = read_config(settings.checkpoint)
        check_checkpoint(settings.checkpoint, config, _vocabulary_sizes(folder), longest)
    elif settings.kept_layers:
        check_layers(teacher, settings.kept_layers)
        if "minilm" in layerwise and projections(layers_of(teacher)[-1]) is None:
            why = f"layers of a model of type {teacher.config.model_type} make queries, keys and"
            raise UserError(f"mkd.layerwise: the {why} values in one: leave minilm out.")
