"""Small Transformer students: chosen layers of the teacher, a checkpoint, or a new shape."""

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, BertConfig, PreTrainedConfig, PreTrainedModel

from mtkd.errors import UserError
from mtkd.models import encoders
from mtkd.models.fast_cpu import use_fast_cpu
from mtkd.models.multitask import TransformerEncoder, load_encoder


def keep_layers(encoder: TransformerEncoder, kept: list[int]) -> TransformerEncoder:
    """Leave an encoder these of its layers (from 0), in this order, with their weights.

    Raises `UserError` for a layer that the encoder does not have, or whose weights others share.
    """
    model = encoder.model
    check_layers(model, kept)
    layers = encoders.layers_of(model)
    chosen = nn.ModuleList([layers[layer] for layer in kept])
    model.set_submodule(encoders.find_layers(model), chosen)
    model.config.num_hidden_layers = len(kept)
    if types := getattr(model.config, "layer_types", None):  # ModernBERT's kinds of attention
        model.config.layer_types = [types[layer] for layer in kept]
    use_fast_cpu(model, cls_only=encoder.pooling != "mean")
    return encoder


def check_layers(model: PreTrainedModel, kept: list[int]) -> None:
    """Raise `UserError` where a model has not all of these layers with weights of their own."""
    if encoders.find_layers(model) is None:
        why = f"a model of type {model.config.model_type} has no weights for each layer"
        raise UserError(f"kept_layers: {why}: give the student init_from: new.")
    count = model.config.num_hidden_layers
    if wrong := [layer for layer in kept if layer >= count]:
        there = f"choose from 0 to {count - 1}"
        raise UserError(f"kept_layers: the encoder has no layer {wrong[0]}; {there}.")


def check_checkpoint(
    source: str | Path, config: PreTrainedConfig, vocabulary: set[int], max_length: int = 0
) -> None:
    """Raise `UserError` where a student's checkpoint is no encoder for the teacher's word pieces.

    `vocabulary` holds the number of pieces of the teacher's tokenizer, and of its embeddings, which
    may have more rows; texts have up to `max_length` pieces.
    """
    problem, size = encoders.find_family_problem(config), config.vocab_size
    if not problem and size not in vocabulary:
        sizes = f"it has {size} word pieces, the teacher {min(vocabulary)}"
        problem = f"{sizes}: give one with the same vocabulary"
    positions = None if problem else encoders.max_positions(encoders.without_weights(config))
    if positions and positions < max_length:
        problem = f"it has {positions} positions, texts up to {max_length}: lower data.max_length"
    if problem:
        raise UserError(f"The student's checkpoint {source} cannot be used: {problem}.")


def from_checkpoint(
    source: str | Path, vocabulary: set[int], *, dropout: float, pooling: str
) -> TransformerEncoder:
    """Load a checkpoint's encoder; `vocabulary` is as in `check_checkpoint`."""
    encoder = load_encoder(source, dropout=dropout, pooling=pooling)
    check_checkpoint(source, encoder.model.config, vocabulary)
    return encoder


def new_encoder(
    teacher: str | Path,
    max_length: int,
    *,
    dropout: float,
    pooling: str,
    intermediate: int | None,
    **shape: int,
) -> TransformerEncoder:
    """Draw a BERT from torch's random state (seed first).

    `shape` has `layers`, `hidden` and `heads`; `intermediate` is four times `hidden` if None.
    Vocabulary, positions and segments are those of the encoder in the folder `teacher`; where that
    has positions without end, they are `max_length`.
    """
    config = AutoConfig.from_pretrained(teacher, trust_remote_code=False)
    if not isinstance(config, BertConfig):
        like = encoders.without_weights(config)
        config = BertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=encoders.max_positions(like) or max_length,
            type_vocab_size=1 + encoders.has_segments(like),
            pad_token_id=config.pad_token_id,
        )
    config.num_hidden_layers, config.hidden_size = shape["layers"], shape["hidden"]
    config.num_attention_heads = shape["heads"]
    config.intermediate_size = intermediate or 4 * config.hidden_size
    encoders.set_dropout(config, dropout)
    extra = encoders.pooler_options(config, pooling)
    return TransformerEncoder(AutoModel.from_config(config, dtype=torch.float32, **extra), pooling)
