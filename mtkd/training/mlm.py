"""Masked-language-model pre-training of a small BERT, for where no checkpoint is available."""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    get_linear_schedule_with_warmup,
    set_seed,
)

from mtkd.config.training import Pretrain
from mtkd.errors import UserError
from mtkd.models.fast_cpu import use_fast_cpu
from mtkd.progress import bar
from mtkd.training.checkpoint import resume, save_checkpoint
from mtkd.training.loop import parameter_groups
from mtkd.training.precision import autocast, number_format
from mtkd.training.windows import Windows, mask_windows, read_corpus, read_rows
from mtkd.training.wordpiece import train_tokenizer

LOG_EVERY = 50  # updates; the logged loss is their mean


def pretrain(
    texts: Callable[[], Iterable[str]],
    settings: Pretrain,
    folder: Path,
    *,
    seed: int,
    checkpoint: Path,
) -> dict:
    """Train a tokenizer and a BERT with masked-LM head, and save both in transformers' format.

    The recipe is that of Devlin et al. 2019 (arXiv:1810.04805) without next-sentence prediction and
    dropout: 80/10/10 masking, AdamW, linear warm-up and decay; half of the windows are
    [CLS] A [SEP] B [SEP], where B follows A in the text, so that segment embeddings are trained.

    Args:
        texts: returns the text anew at each call, a paragraph an item. Of a text with more than
            `settings.train_tokens` tokens an even part is read, a shorter one is read repeatedly.
        settings: shape and recipe.
        folder: takes the encoder and its tokenizer.
        seed: of weights, order and masks.
        checkpoint: file that takes the state every `settings.checkpoint_seconds`. A run that finds
            one continues from it and, on a CPU, ends with the same weights to the last bit.

    Returns:
        `loss`: [[update, nats per masked token, mean since the entry before], ...], `tokens` and
        `seconds`.

    Raises:
        UserError: too little text, a loss that is not finite, or a checkpoint of another model.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = train_tokenizer(texts(), cased=settings.cased, vocab_size=settings.vocab_size)
    tokenizer.model_max_length = settings.max_positions
    corpus = read_corpus(texts, tokenizer, settings.train_tokens)
    window, batch_size = settings.seq_length, settings.batch_size
    if len(corpus.ids) < 2 * window:
        there = f"{len(corpus.ids)} tokens, less than two windows of {window}"
        raise UserError(f"The text has only {there}: give more text.")
    total = math.ceil(settings.train_tokens / batch_size / window)
    set_seed(seed)  # before the model is built, so that its weights follow from the seed
    model = BertForMaskedLM(_config(settings, tokenizer))
    use_fast_cpu(model)
    model.to(device).train()
    groups = parameter_groups(model, settings.weight_decay)
    beta = {"betas": (0.9, 0.98), "eps": 1e-6}
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True, **beta)
    warmup = math.ceil(settings.warmup_ratio * total)
    scheduler = get_linear_schedule_with_warmup(optimizer, warmup, total)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    scaled = number_format(device.type) == torch.float16  # which this loss is not
    precision = "fp32" if scaled else settings.precision
    state = {"step": 0, "seconds": 0.0, "recent": [], "log": []}
    state |= resume(checkpoint, **parts) or {}
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    with bar("pre-training", total, done=state["step"]) as progress:
        for step in range(state["step"], total):
            rows = read_rows(corpus, settings, step, seed)
            masked = mask_windows(rows, tokenizer, settings.mask_probability)
            batch = Windows(*(None if tensor is None else tensor.to(device) for tensor in masked))
            with autocast(device.type, precision):
                loss = masked_lm_loss(model, batch)
            value = loss.item()
            if not math.isfinite(value):
                mend = "lower learning_rate or use precision: fp32"
                raise UserError(f"The pre-training loss is {value} at step {step}: {mend}.")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            state["step"] = step + 1
            state["recent"].append(value)
            if state["step"] % LOG_EVERY == 0 or state["step"] == total:
                state["log"].append([step + 1, sum(state["recent"]) / len(state["recent"])])
                state["recent"].clear()
            progress.step(examples=len(rows), loss=value)
            if time.monotonic() - saved >= settings.checkpoint_seconds:
                state["seconds"] = time.monotonic() - started
                states = {name: part.state_dict() for name, part in parts.items()}
                save_checkpoint(checkpoint, state | states)
                saved = time.monotonic()
    model.cpu().eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    seconds = time.monotonic() - started
    return {"loss": state["log"], "tokens": total * batch_size * window, "seconds": seconds}


def masked_lm_loss(model: BertForMaskedLM, batch: Windows) -> Tensor:
    """Return the mean loss over the masked tokens in nats."""
    inputs = {"attention_mask": batch.mask, "token_type_ids": batch.segments}
    hidden = model.bert(batch.inputs, **inputs).last_hidden_state
    # Only the masked positions go through the head, the dearest part of a small model: (b, k, d).
    hidden = hidden.gather(1, batch.positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    return F.cross_entropy(model.cls(hidden).flatten(0, 1).float(), batch.targets.flatten())


def _config(settings: Pretrain, tokenizer: BertTokenizerFast) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate or 4 * settings.hidden,
        max_position_embeddings=settings.max_positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=settings.initializer_range,
        pad_token_id=tokenizer.pad_token_id,
    )
