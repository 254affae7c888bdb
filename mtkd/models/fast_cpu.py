"""A cheaper BERT step on a CPU: the same function and the same parameters.

`use_fast_cpu` is the one switch; with the environment variable MTKD_FAST_CPU=0 it does nothing, and
transformers' own layers run. On a GPU torch's own kernels are used in either case.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertLayer, eager_attention_forward

NAME = "mtkd"  # of this module's attention in transformers' registry

# oneDNN keeps kernels for every shape of a matrix product, and every length of a batch has its own:
# gigabytes after some hundred updates, where 16 are as fast.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")


def use_fast_cpu(model: PreTrainedModel, cls_only: bool = False) -> None:
    """Replace dropout, attention and, with `cls_only`, the last layer of a BERT, in place.

    `cls_only` says that only the last layer's output at [CLS] is read: it is computed there alone,
    as (b, 1, d). The names and values of the parameters stay. A second call with other layers or
    another `cls_only` is allowed.
    """
    if os.environ.get("MTKD_FAST_CPU") == "0":
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
    known = model.config._attn_implementation in (NAME, "sdpa", "eager")
    layers = _layers_of_bert(model)
    if known and all(type(layer) in (BertLayer, ClsLayer) for layer in layers):
        for layer in layers:
            layer.__class__ = ClsLayer if cls_only and layer is layers[-1] else BertLayer


@contextmanager
def every_position(model: PreTrainedModel) -> Iterator[None]:
    """Compute the last layer at all positions in the block, also after `cls_only`."""
    last = [layer for layer in _layers_of_bert(model)[-1:] if type(layer) is ClsLayer]
    try:
        for layer in last:
            layer.__class__ = BertLayer
        yield
    finally:
        for layer in last:
            layer.__class__ = ClsLayer


def _layers_of_bert(model: PreTrainedModel) -> nn.ModuleList | list:
    """Return the layers where a BERT has them; other families may have none there."""
    return getattr(getattr(model, "encoder", None), "layer", [])


def drop_mask(like: torch.Tensor, p: float) -> torch.Tensor:
    """Return a mask in the shape of `like`, true with probability `p` (a multiple of 1/65536).

    It takes 16 bits of torch's CPU generator per value, and so a quarter of the time of torch's
    own dropout, which is a tenth of a small BERT's step.
    """
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[: like.numel()].view(like.shape) < round(p * 65536) - 32768


def kept_scale(p: float) -> float:
    """Return the factor of the values that `drop_mask` keeps."""
    return 65536 / (65536 - round(p * 65536))


class Dropout(nn.Dropout):
    """`nn.Dropout` with `drop_mask` on a CPU."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Drop values in training."""
        if not self.training or self.p == 0 or not values.is_cpu:
            return super().forward(values)
        return values * (~drop_mask(values, self.p)).to(values.dtype).mul_(kept_scale(self.p))


class SoftmaxDropout(torch.autograd.Function):
    """Masked softmax, then dropout without its scale, of attention scores (b, heads, n, n).

    Of the scores' size, two tensors and a mask are kept for the gradient, where the same in
    separate operations keeps five. The scores are overwritten; `mask` is true where not to attend.
    """

    @staticmethod
    def forward(ctx, scores: torch.Tensor, mask: torch.Tensor | None, p: float) -> torch.Tensor:
        """Return the attention weights."""
        if mask is not None:
            scores.masked_fill_(mask, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, -1)
        dropped = drop_mask(weights, p) if p else None
        ctx.save_for_backward(weights, dropped)
        return weights if dropped is None else weights.masked_fill(dropped, 0)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient of the scores."""
        weights, dropped = ctx.saved_tensors
        if dropped is not None:
            gradient = gradient.masked_fill(dropped, 0)
        return torch._softmax_backward_data(gradient, weights, -1, weights.dtype), None, None


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
    """Attend by plain matrix products: query, key, value (b, heads, n, d) to (b, n, heads, d).

    `mask` is true where to attend. torch's fused CPU kernel is made for long sequences: for
    sentences, with gradients or in bf16, plain products are faster; else the kernel is used.
    """
    if not query.is_cpu or (query.dtype == torch.float32 and not torch.is_grad_enabled()):
        other |= {"dropout": dropout, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, mask, **other)
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    weights = SoftmaxDropout.apply(scores, None if mask is None else ~mask, dropout)
    if dropout:
        value = value * kept_scale(dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class ClsLayer(BertLayer):
    """A BERT layer computed at [CLS] alone, (b, n, d) to (b, 1, d), for the last layer.

    Keys and values are still those of all positions; a sixth of the layer's products remains.
    """

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_, **__
    ) -> torch.Tensor:
        """Return the layer's output at [CLS]."""
        layer, cls = self.attention.self, hidden_states[:, :1]
        shape = (layer.num_attention_heads, layer.attention_head_size)
        projected = layer.query(cls), layer.key(hidden_states), layer.value(hidden_states)
        query, key, value = (each.unflatten(-1, shape).transpose(1, 2) for each in projected)
        kind = layer.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get(kind, eager_attention_forward)
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        dropout = layer.dropout.p if layer.training else 0.0
        context, _ = attend(layer, query, key, value, mask, dropout=dropout, scaling=layer.scaling)
        return self.feed_forward_chunk(self.attention.output(context.flatten(2), cls))
