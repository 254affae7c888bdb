"""The encoder of a student of MKD, by its settings."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer

from mtkd.config.mkd import LstmStudent, TransformerStudent
from mtkd.models.lstm import BiAttentiveEncoder
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.models.small_transformer import from_checkpoint, keep_layers, new_encoder


def student_encoder(
    settings: LstmStudent | TransformerStudent,
    folder: Path,
    pooling: str,
    table: Callable[[], torch.Tensor],
    teacher: Callable[[], Path] | None = None,
) -> nn.Module:
    """Return a student's encoder, drawn from torch's state where its weights are random.

    Args:
        settings: its shape, and where its weights come from.
        folder: the teacher's pre-trained encoder, in transformers' format.
        pooling: of a Transformer, as in `model.pooling`.
        table: returns an LSTM's embeddings (word pieces, e).
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
        return new_encoder(folder, **sizes, **shape)
    if settings.init_from == "checkpoint":
        vocabulary = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return from_checkpoint(settings.checkpoint, len(vocabulary), **shape)
    encoder = load_encoder(folder, **shape)
    if settings.init_from == "teacher" and teacher is not None:
        MultiTaskModel(encoder, [], {}).load(teacher(), heads=False)
    return keep_layers(encoder, settings.kept_layers)
