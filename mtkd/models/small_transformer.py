"""Small Transformer students: chosen layers of a BERT, a checkpoint, or a shape drawn anew."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from mtkd.errors import UserError
from mtkd.models.multitask import TransformerEncoder, load_encoder


def keep_layers(encoder: TransformerEncoder, keep: list[int]) -> TransformerEncoder:
    """The encoder with only these of its layers (from 0), in this order; in place."""
    layers = encoder.model.encoder.layer
    if wrong := [layer for layer in keep if layer >= len(layers)]:
        raise UserError(
            f"keep: there is no layer {wrong[0]} in an encoder of {len(layers)} (0 to {len(layers) - 1}): choose among those."
        )
    encoder.model.encoder.layer = nn.ModuleList([layers[layer] for layer in keep])
    encoder.model.config.num_hidden_layers = len(keep)
    encoder.read_first_alone()
    return encoder


def from_checkpoint(
    source: str | Path, pieces: int, *, dropout: float, pooling: str
) -> TransformerEncoder:
    """A checkpoint's encoder; `UserError` where it has other word pieces than the teacher's `pieces`."""
    encoder = load_encoder(source, dropout=dropout, pooling=pooling)
    if (found := encoder.model.config.vocab_size) != pieces:
        raise UserError(
            f"The student's checkpoint {source} has {found} word pieces, the teacher {pieces}: a student reads the teacher's "
            "word pieces; give a checkpoint with the same vocabulary."
        )
    return encoder


def new_encoder(
    like: str | Path,
    *,
    layers: int,
    hidden: int,
    heads: int,
    intermediate: int | None,
    dropout: float,
    pooling: str,
) -> TransformerEncoder:
    """A Transformer of this shape drawn from torch's state (seed first), with the word pieces and positions of `like`."""
    config = AutoConfig.from_pretrained(like, trust_remote_code=False)
    config.update(
        {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": intermediate or 4 * hidden,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }
    )
    extra = {} if pooling == "pooler" else {"add_pooling_layer": False}
    return TransformerEncoder(AutoModel.from_config(config, dtype=torch.float32, **extra), pooling)
