"""Masked-language-model pre-training of a small BERT, for places where no published checkpoint can be had.

Letters: b windows of a batch, n tokens of a window, k masked tokens of a window, d features.
"""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    get_linear_schedule_with_warmup,
    set_seed,
)

from mtkd.data.sampler import one_pass
from mtkd.errors import UserError, first_line
from mtkd.models import fast_cpu as processor
from mtkd.progress import bar
from mtkd.training import checkpoint as checkpoints
from mtkd.training.wordpiece import SPECIAL_TOKENS, first_characters, train_tokenizer

PAIR_SHARE = 0.5
LOG_EVERY = 50  # steps; the logged loss is their mean


def pretrain(
    texts: Callable[[], Iterable[str]], settings, folder: Path, *, seed: int, checkpoint: Path
) -> dict:
    """Train a tokenizer and a BERT with masked-LM head on `texts`, and save both to `folder` in transformers' format.

    `texts` gives the text anew at each call, a paragraph an item; when it holds more than `settings.train_tokens` tokens, an
    even part of its lines is taken, when fewer, it is read several times. `settings` is a `mtkd.config.study.Pretrain`.
    An interrupted run goes on from the folder `checkpoint` and, on a CPU, ends in the same weights to the last bit; the
    caller removes that folder afterwards.

    Returns {"loss": [[step, nats a masked token, mean of the steps since the last entry], ...], "tokens", "seconds"}.

    The recipe is Devlin et al. (2019) without next-sentence prediction and dropout: 80/10/10 masking, AdamW, linear
    warm-up and decay; half of the windows are [CLS] A [SEP] B [SEP], B being what follows A, so that segment
    embeddings are trained too. The first `attention_guidance_steps` guide the attention (Deshpande & Narasimhan 2020), which takes
    a small model off the plateau of a bag of words. Raises UserError for too little text, a loss that is no number, a
    checkpoint of another run, and a `start_from` of another shape (see `warm_start`).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = train_tokenizer(texts(), cased=settings.cased, vocab_size=settings.vocab_size)
    stream, lines = _tokenise(texts, tokenizer, settings.train_tokens)
    phases = _phases(settings)
    total = sum(phase["steps"] for phase in phases)
    longest = max(phase["window"] for phase in phases)
    if longest > settings.max_positions:
        raise UserError(
            f"seq_length: {longest} tokens do not fit into {settings.max_positions} positions; make it shorter."
        )
    if len(stream) < 2 * longest:
        raise UserError(
            f"The text has only {len(stream)} tokens, less than two windows of {longest}; give more text."
        )

    tokenizer.model_max_length = settings.max_positions
    processor.keep_memory()
    set_seed(seed)  # before the model is built, so that its weights follow from the seed
    model = BertForMaskedLM(_config(settings, tokenizer))
    if settings.start_from:
        warm_start(model, tokenizer, settings.start_from)
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        _decayed(model, settings.weight_decay),
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )
    scheduler = get_linear_schedule_with_warmup(
        optimizer, math.ceil(settings.warmup_ratio * total), total
    )
    fingerprint = _fingerprint(settings, seed, stream)
    position = {"step": 0, "seconds": 0.0, "recent": [], "fingerprint": fingerprint}
    losses: list[list] = []
    if restored := checkpoints.load(
        checkpoint, model=model, optimizer=optimizer, scheduler=scheduler
    ):
        position, losses = restored
        if position["fingerprint"] != fingerprint:
            raise UserError(
                f"{checkpoint}: this checkpoint is of another text, seed or settings; delete it."
            )

    state = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "position": position,
        "log": losses,
    }
    started, saved = time.monotonic() - position["seconds"], time.monotonic()
    guided_steps = min(settings.attention_guidance_steps, total)
    with bar("pre-training", total, done=position["step"]) as shown:
        for step in range(position["step"], total):
            _set_attention(model, "eager" if step < guided_steps else processor.NAME)
            rows, window = _rows(
                stream, phases, step, seed, lines if settings.packing == "lines" else None
            )
            masked = mask_windows(rows, window, tokenizer, settings.mask_probability)
            batch = Windows(*(tensor if tensor is None else tensor.to(device) for tensor in masked))
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                guide = (
                    settings.attention_guidance_weight * (1 - step / guided_steps)
                    if step < guided_steps
                    else 0.0
                )
                loss, guidance = _losses(model, batch, guided=guide > 0)
            value = loss.item()
            if not math.isfinite(value):
                raise UserError(
                    f"The pre-training loss is {value} at step {step}: lower learning_rate or use fp32."
                )
            (loss + guide * guidance).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

            position["step"] = step + 1
            position["recent"].append(value)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == total:
                losses.append([step + 1, sum(position["recent"]) / len(position["recent"])])
                position["recent"].clear()
            shown.step(examples=len(rows), loss=value)
            if time.monotonic() - saved >= settings.checkpoint_seconds:
                position["seconds"] = time.monotonic() - started
                checkpoints.save(checkpoint, **state)
                saved = time.monotonic()
    model.cpu().eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tokens = sum(phase["steps"] * phase["batch"] * phase["window"] for phase in phases)
    return {"loss": losses, "tokens": tokens, "seconds": time.monotonic() - started}


@torch.no_grad()
def warm_start(model: BertForMaskedLM, tokenizer: BertTokenizerFast, folder: str | Path) -> None:
    """Start `model` from the encoder in `folder`, whose vocabulary may differ. In place.

    Layers, position and segment embeddings and the head's transform are copied. A word piece takes the embedding of
    the same piece, else the mean of the pieces into which the other vocabulary cuts its lower-cased string; the head's
    bias is taken for the same piece alone and is 0 elsewhere. So a cased encoder follows cheaply from an uncased one.
    That is this project's choice; the papers use Google's cased and uncased BERT, each trained from nothing.
    Raises UserError when `folder` is no BERT of the same shape.
    """
    try:
        other = AutoModelForMaskedLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False
        )
        vocabulary = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).get_vocab()
    except Exception as error:  # transformers raises many kinds for what a folder may hold
        raise UserError(
            f"start_from: {folder} holds no masked-LM encoder that can be loaded ({first_line(error)}): give a folder with "
            "config.json, model.safetensors and tokenizer.json."
        ) from error
    own = model.state_dict()
    by_piece = {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"}
    by_piece |= {
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    }  # tied to the two above
    given = {name: tensor for name, tensor in other.state_dict().items() if name not in by_piece}
    shapes, wanted = (
        {n: t.shape for n, t in state.items() if n not in by_piece} for state in (given, own)
    )
    wrong = [name for name in (*wanted, *shapes) if shapes.get(name) != wanted.get(name)]
    if wrong or other.config.num_attention_heads != model.config.num_attention_heads:
        raise UserError(
            f"start_from: {folder} is of another shape ({wrong[0] if wrong else 'number of heads'}); "
            "give the same layers, hidden, heads, intermediate and positions as it has."
        )
    model.load_state_dict(given, strict=False)
    known = other.get_input_embeddings().weight
    known_bias = other.cls.predictions.bias
    for piece, index in tokenizer.get_vocab().items():
        pieces = _cut(piece, vocabulary)
        model.get_input_embeddings().weight[index] = (
            known[pieces].mean(0) if pieces else known.mean(0)
        )
        model.cls.predictions.bias[index] = (
            known_bias[vocabulary[piece]] if piece in vocabulary else 0.0
        )


class Windows(NamedTuple):
    """A batch of masked windows, all of whole numbers."""

    inputs: Tensor  # ids, b x n
    segments: Tensor  # 0 or 1, b x n
    places: Tensor  # of the masked tokens, b x k
    targets: Tensor  # their true ids, b x k; -100 where a short line has fewer masked tokens
    mask: Tensor | None  # 1 for a token, 0 for padding, b x n; None where every window is full


def mask_windows(
    rows: Tensor, window: int, tokenizer: BertTokenizerFast, probability: float
) -> Windows:
    """Rows of text (b x (window - 2) ids, padded) as [CLS] A [SEP] or [CLS] A [SEP] B [SEP], masked 80/10/10.

    The first half of the rows (their order is random) become pairs and one token shorter: a full row is cut somewhere
    in its middle half, a line that ends before its row is cut behind a sentence's end, where it has one inside. As many
    tokens of a window are masked as its share, never a special one. Draws from torch's CPU generator.
    """
    count, content = rows.shape
    lengths = (rows != tokenizer.pad_token_id).sum(1, keepdim=True)
    cut = _cuts(rows, lengths, tokenizer)
    cut[round(PAIR_SHARE * count) :] = content
    at = torch.arange(window).expand(count, window)
    segments = (at > cut + 1).long()
    ids = F.pad(rows, (0, 1), value=tokenizer.pad_token_id).gather(
        1, (at - 1 - segments).clamp(0, content)
    )
    end = (lengths + 1 + (cut < content)).clamp(max=window - 1)
    special = (at == 0) | (at == cut + 1) | (at >= end)
    ids = torch.where((at == cut + 1) | (at == end), tokenizer.sep_token_id, ids).masked_fill(
        at > end, tokenizer.pad_token_id
    )
    ids[:, 0] = tokenizer.cls_token_id

    masked = max(1, round(probability * content))
    wanted = (probability * lengths).round().clamp(1, masked)
    places = torch.rand(count, window).masked_fill(special, -1).topk(masked).indices
    targets = ids.gather(1, places)
    draw = torch.rand(count, masked)
    other = torch.randint(len(SPECIAL_TOKENS), len(tokenizer), (count, masked))
    shown = torch.where(
        draw < 0.8, tokenizer.mask_token_id, torch.where(draw < 0.9, other, targets)
    )
    beyond = torch.arange(masked).expand(count, masked) >= wanted
    shown = torch.where(beyond, targets, shown)
    full = bool((lengths == content).all())
    return Windows(
        ids.scatter(1, places, shown),
        segments * (at <= end),
        places,
        targets.masked_fill(beyond, -100),
        None if full else (at <= end).long(),
    )


def _cuts(rows: Tensor, lengths: Tensor, tokenizer: BertTokenizerFast) -> Tensor:
    """Where each row parts in two (b x 1, tokens of A); the row's width where it cannot."""
    count, content = rows.shape
    anywhere = torch.randint(content // 4, content - content // 4, (count, 1))
    stops = torch.tensor(tokenizer.convert_tokens_to_ids([".", "?", "!"]))
    inside = torch.isin(rows, stops) & (torch.arange(content).expand(count, content) < lengths - 1)
    chosen = torch.rand(count, content).masked_fill(~inside, -1).argmax(1, keepdim=True) + 1
    return torch.where(
        lengths == content, anywhere, torch.where(inside.any(1, keepdim=True), chosen, content)
    )


def _losses(
    model: BertForMaskedLM, batch: Windows, *, guided: bool
) -> tuple[Tensor, Tensor | float]:
    """Mean masked-LM loss in nats and, when `guided`, the guidance of the attention."""
    output = model.bert(
        batch.inputs,
        attention_mask=batch.mask,
        token_type_ids=batch.segments,
        output_attentions=guided,
    )
    hidden = output.last_hidden_state
    # Only the masked places go through the head, the dearest part of a small model: b x k x d.
    hidden = hidden.gather(1, batch.places.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    loss = F.cross_entropy(model.cls(hidden).flatten(0, 1).float(), batch.targets.flatten())
    return loss, _guidance(output.attentions) if guided else 0.0


def _guidance(attentions: tuple[Tensor, ...]) -> Tensor:
    """Mean negative log of the attention on the token at -1, +1, -2, +2 (heads of layer 1) and -1, +1 (of layer 2)."""
    terms = []
    for layer, offsets in zip(attentions, ([-1, 1, -2, 2], [-1, 1]), strict=False):
        for head, offset in zip(layer.float().unbind(1), offsets, strict=False):
            terms.append(-head.diagonal(offset, 1, 2).clamp(min=1e-9).log().mean())
    return torch.stack(terms).mean()


def _set_attention(model: BertForMaskedLM, kind: str) -> None:
    """Guidance needs the probabilities, which only eager attention gives; the other is faster."""
    if model.config._attn_implementation != kind:
        model.set_attn_implementation(kind)


def _phases(settings) -> list[dict]:
    """Short windows, then (for `long_fraction` of the tokens) long ones in batches of about as many tokens."""
    shares = [(settings.seq_length, 1.0)]
    if settings.long_seq_length and settings.long_fraction > 0:
        shares = [
            (settings.seq_length, 1 - settings.long_fraction),
            (settings.long_seq_length, settings.long_fraction),
        ]
    phases = []
    for window, share in shares:
        batch = max(1, settings.batch_size * settings.seq_length // window)
        phases.append(
            {
                "window": window,
                "batch": batch,
                "steps": math.ceil(share * settings.train_tokens / batch / window),
            }
        )
    return phases


def _rows(
    stream: np.ndarray, phases: list[dict], step: int, seed: int, lines: np.ndarray | None = None
) -> tuple[Tensor, int]:
    """The text of a step's windows (b x (n - 2) ids) and n: running text, or a line each with 0 ([PAD]) behind it.

    `lines` holds where the lines begin. Depends on its arguments alone, so it resumes.
    """
    for phase in phases:
        if step < phase["steps"]:
            break
        step -= phase["steps"]
    content = phase["window"] - 2
    if lines is not None:
        lengths = np.minimum(np.diff(lines), content)
        batches = math.ceil(len(lengths) / phase["batch"])
        chosen = _order_of_lines(seed, step // batches, lengths.tobytes(), phase["batch"])[
            step % batches
        ]
        rows = np.zeros((len(chosen), lengths[chosen].max()), dtype=np.int64)
        for row, line in zip(rows, chosen, strict=True):
            row[: lengths[line]] = stream[lines[line] : lines[line] + lengths[line]]
        return torch.from_numpy(rows), rows.shape[1] + 2
    first = step * phase["batch"]
    windows = len(stream) // content - 1  # one less than fit, for the epoch's random offset
    starts = [
        _order(seed, content, w // windows, windows)[w % windows]
        for w in range(first, first + phase["batch"])
    ]
    return torch.from_numpy(stream[np.array(starts)[:, None] + np.arange(content)]).long(), phase[
        "window"
    ]


@lru_cache(maxsize=2)
def _order(seed: int, content: int, epoch: int, windows: int) -> np.ndarray:
    """Where the windows of an epoch start, in random order."""
    generator = np.random.default_rng([seed, content, epoch])
    return generator.integers(content) + content * generator.permutation(windows)


@lru_cache(maxsize=2)
def _order_of_lines(seed: int, epoch: int, lengths: bytes, batch_size: int) -> list[np.ndarray]:
    """The lines of an epoch's batches: random, with lines of like length together so that little is padded."""
    return one_pass(
        np.frombuffer(lengths, np.int64), batch_size, 50, np.random.default_rng([seed, epoch])
    )


def _tokenise(
    texts: Callable[[], Iterable[str]], tokenizer: BertTokenizerFast, tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """An even part of the lines, enough for `tokens` tokens if there are as many, as one array of ids, and where each line begins."""
    sample = list(first_characters(texts(), 1_000_000))
    ids, _ = _encode(sample, tokenizer)
    needed = (
        1.05 * tokens * sum(map(len, sample)) / max(1, len(ids))
    )  # characters; the sample's density is a guess
    share = min(1.0, needed / max(1, sum(map(len, texts()))))
    chosen = (line for i, line in enumerate(texts()) if int((i + 1) * share) > int(i * share))
    parts, sizes = [], [np.zeros(1, np.int64)]
    while lines := list(itertools.islice(chosen, 1000)):
        part, size = _encode(lines, tokenizer)
        parts.append(part)
        sizes.append(size)
    return np.concatenate(parts), np.concatenate(sizes).cumsum()


def _encode(lines: list[str], tokenizer: BertTokenizerFast) -> tuple[np.ndarray, np.ndarray]:
    """The lines' ids in one array, and how many each has."""
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return np.fromiter(itertools.chain.from_iterable(e.ids for e in encodings), np.int32), np.array(
        [len(e.ids) for e in encodings]
    )


def _cut(piece: str, vocabulary: dict[str, int]) -> list[int]:
    """Ids of a piece in another vocabulary: itself, else the longest pieces of its lower-cased string; [] if none."""
    if piece in vocabulary:
        return [vocabulary[piece]]
    prefix = "##" if piece.startswith("##") else ""
    rest = piece.removeprefix("##").lower()
    ids = []
    while rest:
        end = next(
            (end for end in range(len(rest), 0, -1) if prefix + rest[:end] in vocabulary), None
        )
        if end is None:
            return []
        ids.append(vocabulary[prefix + rest[:end]])
        prefix, rest = "##", rest[end:]
    return ids


def _config(settings, tokenizer: BertTokenizerFast) -> BertConfig:
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


def _decayed(model: BertForMaskedLM, weight_decay: float) -> list[dict]:
    """Parameter groups: matrices decay, biases and LayerNorms do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _fingerprint(settings, seed: int, stream: np.ndarray) -> str:
    """What a run's result depends on, so that a checkpoint of another run is not taken up."""
    recipe = {name: value for name, value in vars(settings).items() if name != "checkpoint_seconds"}
    digest = hashlib.sha256(json.dumps([recipe, seed], sort_keys=True, default=str).encode())
    digest.update(stream.tobytes())
    return digest.hexdigest()
