"""A vector that says how two texts compare, from the contextual embeddings of both: a shared layer between encoder and heads.

For encoders too small, or pre-trained too little, to compare the texts themselves. MT-DNN's heads for text pairs compare the
texts' words as well (a stochastic answer network, Liu et al. 2019, arXiv:1901.11504, section 3); this is the plainer way of Parikh
et al. (2016, arXiv:1606.01933): attend, compare, aggregate. That it is shared by all tasks, and all sizes, are this project's choices.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Comparison(nn.Module):
    """Contextual embeddings (b, n, d) of one or two texts to one vector an example (b, 2d).

    Every word piece looks at the other text (a single text's at its own) and keeps what it finds there, c: softmax(x·y / √d)·y.
    [x; x − c; x ∘ c] goes through a layer of rectified linear units, whose greatest and mean values over each text go through
    another, to the second half of the vector. The first half is the mean over all word pieces.
    """

    def __init__(self, width: int):
        super().__init__()
        self.compare = nn.Linear(3 * width, width)
        self.merge = nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """`mask` (b, n) is 1 on word pieces, `segments` (b, n) 0 on the first text's and 1 on the second's."""
        inside, second = mask.bool(), segments.bool() & mask.bool()
        single = ~second.any(1, keepdim=True)
        first, second = inside & ~second, second | (inside & single)
        own = first[:, :, None]
        seen = own & second[:, None, :] | ~own & first[:, None, :]  # a single text's pieces are of both
        scores = (hidden @ hidden.transpose(1, 2)).float() * hidden.shape[-1] ** -0.5
        found = F.softmax(scores.masked_fill(~seen, torch.finfo(scores.dtype).min), dim=-1).to(hidden.dtype) @ hidden
        compared = F.relu(self.compare(torch.cat([hidden, hidden - found, hidden * found], dim=-1)))
        # What lies outside counts as 0 in both poolings: a rectified value is never below.
        parts = [compared * part[..., None] for part in (first, second)]
        counts = [part.sum(1, keepdim=True) for part in (first, second)]
        pooled = torch.cat([value for part, count in zip(parts, counts, strict=True) for value in (part.amax(1), part.sum(1) / count)], -1)
        return torch.cat([mean_of(hidden, mask), F.relu(self.merge(pooled))], dim=-1)


def mean_of(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the contextual embeddings (b, n, d) over word pieces: (b, d)."""
    inside = mask[..., None].to(hidden.dtype)
    return (hidden * inside).sum(1) / inside.sum(1)
