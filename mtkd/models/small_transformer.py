"""Small Transformer students: chosen layers of a BERT, a checkpoint, or a new shape."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from mtkd.errors import UserError
from mtkd.models.multitask import TransformerEncoder, load_encoder


def keep_layers(encoder: TransformerEncoder, kept: list[int]) -> TransformerEncoder:
    """Return an encoder of these of the encoder's layers (from 0), in this order, with its weights.

    Raises `UserError` for a layer that the encoder does not have.
    """
    layers = encoder.model.encoder.layer
    if wrong := [layer for layer in kept if layer >= len(layers)]:
        there = f"choose from 0 to {len(layers) - 1}"
        raise UserError(f"kept_layers: the encoder has no layer {wrong[0]}; {there}.")
    encoder.model.encoder.layer = nn.ModuleList([layers[layer] for layer in kept])
    encoder.model.config.num_hidden_layers = len(kept)
    return TransformerEncoder(encoder.model, encoder.pooling)


def from_checkpoint(
    source: str | Path, vocab_size: int, *, dropout: float, pooling: str
) -> TransformerEncoder:
    """Load a checkpoint's encoder; raise `UserError` where it has another vocabulary's size."""
    encoder = load_encoder(source, dropout=dropout, pooling=pooling)
    size = encoder.model.config.vocab_size
    if size != vocab_size:
        sizes = f"{source} has {size} word pieces, the teacher {vocab_size}"
        raise UserError(f"The student's checkpoint {sizes}: give one with the same vocabulary.")
    return encoder


def new_encoder(
    teacher: str | Path, *, dropout: float, pooling: str, intermediate: int | None, **shape: int
) -> TransformerEncoder:
    """Draw a Transformer from torch's random state (seed first).

    `shape` has `layers`, `hidden` and `heads`; `intermediate` is four times `hidden` if None.
    Vocabulary and positions are those of the encoder in the folder `teacher`.
    """
    config = AutoConfig.from_pretrained(teacher, trust_remote_code=False)
    config.num_hidden_layers, config.hidden_size = shape["layers"], shape["hidden"]
    config.num_attention_heads = shape["heads"]
    config.intermediate_size = intermediate or 4 * config.hidden_size
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    extra = {} if pooling == "pooler" else {"add_pooling_layer": False}
    return TransformerEncoder(AutoModel.from_config(config, dtype=torch.float32, **extra), pooling)
