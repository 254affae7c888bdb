"""What differs between the families of encoders, read off their configurations and modules.

Nothing else in the project asks which family an encoder is of, except for BERT, which has a faster
step on a CPU (`mtkd.models.fast_cpu`) and a class of transformers to export to.
"""

import copy
import inspect
import re
from pathlib import Path

import torch
from torch import nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mtkd.data.dataset import vocabulary_size
from mtkd.errors import UserError, first_line

FAMILIES = {  # those tested end to end: transformers' model_type, and the name
    "bert": "BERT",
    "distilbert": "DistilBERT",
    "electra": "ELECTRA",
    "roberta": "RoBERTa",
    "xlm-roberta": "XLM-R",
    "albert": "ALBERT",
    "mpnet": "MPNet",
    "deberta": "DeBERTa",
    "deberta-v2": "DeBERTa-v2 and v3",
    "modernbert": "ModernBERT",
}
# Those that transformers cannot compute under autocast: DeBERTa's mask overflows bf16.
FP32_FAMILIES = {"deberta"}
# A configuration's names for dropout within the encoder; heads have others (classifier_dropout).
DROPOUT = re.compile(
    r"((hidden|attention|attention_probs|embedding|mlp|activation)_)?dropout(_prob)?"
)


def read_config(source: str | Path) -> PreTrainedConfig:
    """Read a model's configuration from a folder or the hub; raise `UserError` where it cannot."""
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # transformers and the hub's client raise many kinds
        why = f"cannot be read ({first_line(error)})"
        raise UserError(
            f"The configuration of {source} {why}: give a folder or a hub id."
        ) from None


def find_family_problem(config: PreTrainedConfig) -> str | None:
    """Return why a model is no encoder, and what to give instead; None: it is one.

    An encoder is a model that transformers can train to fill in masked words: it reads a text in
    both directions at once, which a decoder does not.
    """
    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or decodes:
        problem = f"a model of type {config.model_type} is no encoder of masked words"
    else:
        trial = copy.deepcopy(config)
        set_dropout(trial, 0.25)
        other = [name for name, p in dropouts(without_weights(trial)).items() if p != 0.25]
        problem = f"the dropout {other[0]} cannot be set" if other else None
    *names, last = FAMILIES.values()
    return problem and f"{problem}: give a {', '.join(names)} or {last}"


def find_tokenizer_problem(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """Return why a tokenizer is not for a model, and what to do; None: it is."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        return "its tokenizer has no word pieces: add its tokenizer.json"
    pieces, rows = vocabulary_size(tokenizer), config.vocab_size
    if pieces > rows:
        mend = "resize the embeddings (model.resize_token_embeddings) and save the model again"
        return f"its tokenizer has {pieces} word pieces and its embeddings {rows}: {mend}"
    if tokenizer.pad_token_id is None or tokenizer.num_special_tokens_to_add(pair=True) < 3:
        mend = "give the tokenizer that the model was trained with"
        return f"its tokenizer has no pad token, or puts no special tokens around texts: {mend}"
    return None


def without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model to look at its modules: its tensors have shapes and no values."""
    with torch.device("meta"):
        return AutoModel.from_config(config)


def pooler_options(config: PreTrainedConfig, pooling: str) -> dict[str, bool]:
    """Return the argument that leaves out a pooler which is not read, where the model has one."""
    named = inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters
    leaves_out = pooling != "pooler" and "add_pooling_layer" in named
    return {"add_pooling_layer": False} if leaves_out else {}


def set_dropout(config: PreTrainedConfig, dropout: float) -> None:
    """Set the dropout of hidden layers and of attention alike, by the family's names for them."""
    for name in filter(DROPOUT.fullmatch, config.to_dict()):
        setattr(config, name, dropout)


def dropouts(model: PreTrainedModel) -> dict[str, float]:
    """Return the probability of every dropout of an encoder by the module's name."""
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            found[path] = module.p
        for name, value in vars(module).items():  # ModernBERT's attention holds a number
            if DROPOUT.fullmatch(name) and isinstance(value, float | int):
                found[f"{path}.{name}"] = value
    return found


def max_positions(model: PreTrainedModel) -> int | None:
    """Return the most word pieces of a text; None for a model of relative positions, any number.

    RoBERTa and its kin count from the pad token's id, so that their table has rows to spare.
    """
    table = _embedding(model, "position_embeddings")
    if table is None:
        return None
    spare = 0 if table.padding_idx is None else table.padding_idx + 1
    return min(table.num_embeddings - spare, model.config.max_position_embeddings)


def has_segments(model: PreTrainedModel) -> bool:
    """Tell whether the model tells the second text from the first by an embedding."""
    table = _embedding(model, "token_type_embeddings")
    return table is not None and table.num_embeddings > 1


def drop_segments(model: PreTrainedModel) -> None:
    """Keep the first segment's embedding alone, for a tokenizer that puts all pieces there."""
    table = _embedding(model, "token_type_embeddings")
    table.weight, table.num_embeddings = nn.Parameter(table.weight[:1].detach().clone()), 1
    model.config.type_vocab_size = 1


def _embedding(model: PreTrainedModel, name: str) -> nn.Embedding | None:
    tables = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Embedding)]
    return next((table for path, table in tables if path.rpartition(".")[2] == name), None)


def word_embeddings(model: PreTrainedModel) -> str:
    """Return the name of the parameter that holds the word pieces' embeddings."""
    table = model.get_input_embeddings()
    return next(name for name, value in model.named_parameters() if value is table.weight)


def find_layers(model: PreTrainedModel) -> str | None:
    """Return the name of the list of layers; None where there is none with weights for each.

    ALBERT's layers share their weights, in groups.
    """
    lists = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    found = [path for path, m in lists if len(m) == model.config.num_hidden_layers]
    outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    grouped = hasattr(model.config, "num_hidden_groups")
    return outer[0] if len(outer) == 1 and not grouped else None


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the layers of a model that has weights of its own in each."""
    return model.get_submodule(find_layers(model))


def projections(layer: nn.Module) -> list[nn.Linear] | None:
    """Return a layer's linear maps to queries, keys and values; None where it has one for all."""
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)][:3]
    square = all(module.out_features == linear[0].in_features for module in linear)
    return linear if square else None
