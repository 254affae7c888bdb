"""Tiny random checkpoints of every family of encoders, with tokenizers of the families' kinds."""

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedConfig, PreTrainedTokenizerFast

from mtkd.models import encoders

POSITIONS = 64  # word pieces of a text, whatever the family counts from
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.1,
}
BERT_NAMES = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
ROBERTA_NAMES = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
BERT_ORDER, ROBERTA_ORDER = (
    ("pad", "unk", "cls", "sep", "mask"),
    ("cls", "pad", "sep", "unk", "mask"),
)


def make_tokenizer(
    tokenizer: Tokenizer, trainer: Callable, texts: list[str], names: dict, pair: str, **options
) -> PreTrainedTokenizerFast:
    """Train a tokenizer whose special tokens have these names; `pair` is its template of a pair."""
    order = ROBERTA_ORDER if names is ROBERTA_NAMES else BERT_ORDER
    special = [names[each] for each in order]
    tokenizer.train_from_iterator(texts, trainer(special_tokens=special, **options))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']} $A {names['sep']}",
        pair=pair.replace("cls", names["cls"]).replace("sep", names["sep"]),
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in special],
    )
    tokens = {f"{each}_token": name for each, name in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **tokens)


def wordpiece(texts: list[str], pair: str = "cls $A sep $B:1 sep:1") -> PreTrainedTokenizerFast:
    """Train WordPiece, as BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer
    return make_tokenizer(tokenizer, trainer, texts, BERT_NAMES, pair, vocab_size=200)


def byte_level(texts: list[str], names: dict = ROBERTA_NAMES, pair: str = "cls $A sep sep $B sep"):
    """Train byte-level BPE, as RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = {"vocab_size": 350, "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    return make_tokenizer(tokenizer, trainers.BpeTrainer, texts, names, pair, **alphabet)


def unigram(texts: list[str], names: dict = BERT_NAMES, pair: str = "cls $A sep $B:1 sep:1"):
    """Train Unigram, the model of SentencePiece."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    options = {"vocab_size": 110, "unk_token": names["unk"]}
    return make_tokenizer(tokenizer, trainers.UnigramTrainer, texts, names, pair, **options)


ONE_SEGMENT = {"type_vocab_size": 1, "max_position_embeddings": POSITIONS + 2}
DEBERTA = {"relative_attention": True, "type_vocab_size": 0, "pos_att_type": ["c2p", "p2c"]}
# As the published models are: the configuration's differences from BERT's, and the tokenizer.
FAMILIES: dict[str, tuple[dict, Callable[[list[str]], PreTrainedTokenizerFast]]] = {
    "bert": ({}, wordpiece),
    "distilbert": ({"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64}, wordpiece),
    "electra": ({"embedding_size": 16}, wordpiece),
    "roberta": (ONE_SEGMENT, byte_level),
    "xlm-roberta": (
        ONE_SEGMENT,
        lambda texts: unigram(texts, ROBERTA_NAMES, "cls $A sep sep $B sep"),
    ),
    "albert": ({"embedding_size": 16}, unigram),
    "mpnet": (
        {"max_position_embeddings": POSITIONS + 2},
        lambda texts: wordpiece(texts, "cls $A sep sep $B sep"),
    ),
    "deberta": (
        DEBERTA | {"position_biased_input": False, "max_relative_positions": -1},
        lambda texts: byte_level(texts, BERT_NAMES, "cls $A sep $B:1 sep:1"),
    ),
    "deberta-v2": (
        DEBERTA
        | {"position_biased_input": False, "position_buckets": 16, "share_att_key": True}
        | {"norm_rel_ebd": "layer_norm"},
        unigram,
    ),
    "modernbert": (
        {"global_attn_every_n_layers": 2, "local_attention": 16},
        lambda texts: byte_level(texts, BERT_NAMES, "cls $A sep $B sep"),
    ),
}


def config_of(family: str, tokenizer: PreTrainedTokenizerFast | None = None) -> PreTrainedConfig:
    """Return the configuration of a tiny model of a family."""
    changes, _ = FAMILIES[family]
    size = {} if family == "distilbert" else SIZE
    ids = {"vocab_size": 400, "pad_token_id": 1, "cls_token_id": 2, "sep_token_id": 3}
    if tokenizer:
        names = ("pad_token_id", "cls_token_id", "sep_token_id")
        ids = {name: getattr(tokenizer, name) for name in names} | {"vocab_size": len(tokenizer)}
    ids |= {"bos_token_id": ids["cls_token_id"], "eos_token_id": ids["sep_token_id"]}
    position = {"max_position_embeddings": POSITIONS, "initializer_range": 0.1}
    return CONFIG_MAPPING[family](**{**position, **size, **changes, **ids})


def make_checkpoint(family: str, folder: Path, texts: list[str], seed: int = 0) -> Path:
    """Write a random model of a family and its tokenizer in transformers' format."""
    tokenizer = FAMILIES[family][1](texts)
    torch.manual_seed(seed)
    AutoModel.from_config(config_of(family, tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def capabilities(family: str) -> dict[str, bool]:
    """Return what is possible with a family of encoders beyond what all of them can."""
    model = encoders.without_weights(config_of(family))
    layers = encoders.find_layers(model)
    return {
        "segments": encoders.has_segments(model),
        "positions": encoders.max_positions(model) is not None,
        "pooler": getattr(model, "pooler", None) is not None,
        "classifier": family == "bert",
        "kept_layers": layers is not None,
        "minilm": bool(layers and encoders.projections(encoders.layers_of(model)[-1])),
    }
