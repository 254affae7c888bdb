"""A BERT's step made cheaper: a last layer at [CLS] alone; and on a processor attention for short texts, dropout from fewer
random bits, memory kept. On a GPU torch's own kernels are taken.
"""

import contextlib
import ctypes
import sys

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertLayer, eager_attention_forward

NAME = "mtkd"


def keep_memory() -> None:
    """Has glibc keep large blocks for the next step; else it gives them back to the system and takes them anew, page by page."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h
            for parameter, value in (
                (trim_threshold, 2_000_000_000),
                (top_pad, 16 << 20),
                (mmap_max, 0),
            ):
                ctypes.CDLL(None).mallopt(parameter, value)


def keep_mask(like: torch.Tensor, p: float) -> torch.Tensor:
    """0 with probability `p` (rounded to a multiple of 1/65536), else 1 / (1 - p), in the shape and type of `like`.

    16 bits of torch's CPU generator a value: a quarter of the time of a draw a value, which is a tenth of a small BERT's step.
    """
    dropped = round(p * 65536)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: like.numel()].view(like.shape) >= dropped - 32768
    return kept.to(like.dtype).mul_(65536 / (65536 - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` with `keep_mask` on a processor."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or not values.is_cpu:
            return super().forward(values)
        return values * keep_mask(values, self.p)


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **other,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' interface: query, key, value (b, heads, n, d) to (b, n, heads, d); `mask` is true where to look.

    torch's fused kernel for processors is made for long sequences: with gradients or in bf16, at the lengths of sentences,
    the plain products are faster. Elsewhere it is taken.
    """
    if not query.is_cpu or (query.dtype == torch.float32 and not torch.is_grad_enabled()):
        return sdpa_attention_forward(
            module, query, key, value, mask, dropout=dropout, scaling=scaling, **other
        )
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    if dropout:
        weights = weights * keep_mask(weights, dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def lighten(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with this module's dropout and attention, in place; weights and what is computed stay as they were."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
    return model


class LayerOfFirst(BertLayer):
    """A BERT's layer at its first place ([CLS]) alone, (b, n, d) to (b, 1, d): for the last one, where nothing reads the others.

    Keys and values are still of all places; a sixth of the layer's products is left.
    """

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_, **more
    ) -> torch.Tensor:
        own, first = self.attention.self, hidden_states[:, :1]

        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.unflatten(
                -1, (own.num_attention_heads, own.attention_head_size)
            ).transpose(1, 2)

        look = ALL_ATTENTION_FUNCTIONS.get(own.config._attn_implementation, eager_attention_forward)
        found, _ = look(
            own,
            heads(own.query(first)),
            heads(own.key(hidden_states)),
            heads(own.value(hidden_states)),
            None if attention_mask is None else attention_mask[:, :, :1],
            dropout=own.dropout.p if own.training else 0.0,
            scaling=own.scaling,
        )
        return self.feed_forward_chunk(self.attention.output(found.flatten(2), first))


def read_first(model: PreTrainedModel) -> None:
    """Has the last layer computed at [CLS] alone and the others whole, in place; a model that is no BERT stays as it is."""
    layers = getattr(getattr(model, "encoder", None), "layer", [])
    if model.config._attn_implementation in (NAME, "sdpa", "eager") and all(
        type(layer) in (BertLayer, LayerOfFirst) for layer in layers
    ):
        for layer in layers:
            layer.__class__ = LayerOfFirst if layer is layers[-1] else BertLayer
