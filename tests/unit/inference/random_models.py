import torch
from families import config_of
from transformers import AutoModel, BertConfig, BertModel

from mtkd.models import MultiTaskModel
from mtkd.models.lstm import BiAttentiveEncoder
from mtkd.models.multitask import TransformerEncoder


def make_model(task, kind="cls", *, vocab_size=60, scale=1.0, head="linear") -> MultiTaskModel:
    """Draw an LSTM, or a BERT of this pooling with biases and norms that are not the identity.

    `scale` makes large logits.
    """
    torch.manual_seed(0)
    if kind == "lstm":
        encoder = BiAttentiveEncoder(torch.randn(vocab_size, 8), hidden=8, layers=2, output=8)
    else:
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            max_position_embeddings=64,
            initializer_range=0.1,
        )
        encoder = TransformerEncoder(BertModel(config, add_pooling_layer=kind == "pooler"), kind)
    model = MultiTaskModel(encoder, [task], {task.name: 0.0}, {task.name: head})
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    getattr(model.heads[task.name], "classify", model.heads[task.name]).weight.data *= scale
    return model.eval()


def family_model(family: str, task, pooling: str, head="linear") -> MultiTaskModel:
    """Draw a tiny model of a family of encoders."""
    torch.manual_seed(0)
    encoder = TransformerEncoder(AutoModel.from_config(config_of(family)), pooling)
    return MultiTaskModel(encoder, [task], {task.name: 0.0}, {task.name: head}).eval()
