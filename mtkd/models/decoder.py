"""A decoder that writes a text: MT-DNN's output layer for text generation.

MT-DNN (Liu et al. 2019, arXiv:1901.11504, section 3) names a neural decoder for text generation and
describes none. This one is a small Transformer decoder (Vaswani et al. 2017, arXiv:1706.03762,
section 3.1) over the encoder's contextual embeddings, with layer normalisation before each layer.
Word pieces are read and written by the encoder's own table, so that a task adds its layers alone.

Letters: b examples, n word pieces of the source, t of the text, e width of the table and of the
decoder, d width of the source's embeddings, v pieces of the vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkd.data.dataset import Batch

LAYERS, HEAD_WIDTH = 2, 64  # this project's choices
Memory = tuple[Tensor, Tensor]  # keys and values, (b, heads, n, e / heads) each
# Maps the last pieces (r,) of r texts, and the rows (r,) of the texts before that they continue, to
# the log-probabilities (r, v) of the pieces that follow.
Step = Callable[[Tensor, Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head attention of queries (b, t, e) to word pieces (b, n, d)."""

    def __init__(self, width: int, source_width: int, heads: int):
        super().__init__()
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(source_width, width), nn.Linear(source_width, width)
        self.heads = heads

    def remember(self, source: Tensor) -> Memory:
        """Return keys and values of word pieces (b, n, d)."""
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(
        self, queries: Tensor, memory: Memory, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Return what each query attends to, (b, t, e); `mask` (b, 1, 1, n) is true where it may.

        A `causal` query attends to pieces up to its own position.
        """
        asked = self._split(self.query(queries))
        found = F.scaled_dot_product_attention(asked, *memory, attn_mask=mask, is_causal=causal)
        return self.output(found.transpose(1, 2).flatten(2))

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Attention to the text so far, attention to the source, and a feed-forward layer."""

    def __init__(self, width: int, source_width: int, heads: int, dropout: float):
        super().__init__()
        self.text = Attention(width, width, heads)
        self.source = Attention(width, source_width, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, values: Tensor, source: Memory, mask: Tensor, past: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """Return the next values (b, t, e), and keys and values of the text so far.

        `values` are of the whole text; with the `past` of the pieces before, of one piece.
        """
        normed = self.norms[0](values)
        memory = self.text.remember(normed)
        if past is not None:
            memory = tuple(torch.cat(both, dim=2) for both in zip(past, memory, strict=True))
        values = values + self.dropout(self.text(normed, memory, causal=past is None))
        values = values + self.dropout(self.source(self.norms[1](values), source, mask))
        return values + self.dropout(self.feed_forward(self.norms[2](values))), memory


class TextDecoder(nn.Module):
    """A Transformer decoder of texts of at most `longest` word pieces.

    A text begins with the first piece of its source, such as [CLS], and ends with the last, such as
    [SEP]. Number and size of layers are this project's choice, their dropout that of Vaswani et al.
    The `table` (v, e) gives the width, and the scale at which logits begin with a variance of 1.
    """

    def __init__(self, table: Tensor, source_width: int, longest: int, dropout: float = 0.1):
        super().__init__()
        width = table.shape[1]
        most = max(1, width // HEAD_WIDTH)
        heads = next(count for count in range(most, 0, -1) if width % count == 0)
        self.positions = nn.Embedding(longest + 1, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.layers = nn.ModuleList(
            DecoderLayer(width, source_width, heads, dropout) for _ in range(LAYERS)
        )
        self.dropout = nn.Dropout(dropout)
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        scale = 1 / table.detach().norm(dim=1).mean()  # inf where weights are loaded afterwards
        nn.init.constant_(self.norms[1].weight, scale.item())

    def forward(self, states: Tensor, batch: Batch, table: Tensor) -> Tensor:
        """Return the logits (u, v) of the pieces of the batch's texts, each after the correct ones.

        `states` (b, n, d) are the encoder's; the `table` (v, e) is that of its word pieces.
        """
        values = self.read(states, batch, before(batch), table)
        return F.linear(values[tuple(batch.words.unbind(1))], table)

    def read(self, states: Tensor, batch: Batch, pieces: Tensor, table: Tensor) -> Tensor:
        """Return the values (b, t, e) after each of the pieces (b, t), whose logits follow."""
        values, mask = self._embed(pieces, 0, table), _mask(batch)
        for layer in self.layers:
            values, _ = layer(values, layer.source.remember(states), mask)
        return self.norms[1](values)

    def begin(self, states: Tensor, batch: Batch, table: Tensor, beams: int) -> Step:
        """Return what continues texts piece by piece, b * beams of them, each source's together.

        Keys and values of the pieces before are kept. Arguments are as of `forward`.
        """
        mask = _mask(batch).repeat_interleave(beams, dim=0)
        states = states.repeat_interleave(beams, dim=0)
        sources = [layer.source.remember(states) for layer in self.layers]
        pasts: list[Memory | None] = [None] * len(self.layers)

        def step(pieces: Tensor, rows: Tensor) -> Tensor:
            written = 0 if pasts[0] is None else pasts[0][0].shape[2]
            values = self._embed(pieces[:, None], written, table)
            for number, layer in enumerate(self.layers):
                past = pasts[number] and tuple(each[rows] for each in pasts[number])
                values, pasts[number] = layer(values, sources[number], mask, past)
            return F.log_softmax(F.linear(self.norms[1](values[:, 0]), table).float(), dim=-1)

        return step

    def _embed(self, pieces: Tensor, first: int, table: Tensor) -> Tensor:
        """Embed pieces (b, t), the first of them at that position: (b, t, e)."""
        places = self.positions.weight[first : first + pieces.shape[1]]
        return self.dropout(self.norms[0](F.embedding(pieces, table) + places))


def before(batch: Batch) -> Tensor:
    """Return what comes before each piece of the batch's texts, (b, t): a start and the others."""
    example, position = batch.words.unbind(1)
    texts = batch.labels.new_zeros(len(batch.input_ids), int(position.max()) + 1)
    texts[example, position] = batch.labels
    return torch.cat([batch.input_ids[:, :1], texts[:, :-1]], dim=1)


def _mask(batch: Batch) -> Tensor:
    """Return where the source's pieces are, (b, 1, 1, n)."""
    return batch.attention_mask.bool()[:, None, None]


def search(step: Step, batch: Batch, beams: int, longest: int) -> Tensor:
    """Return the best text that a beam search finds for each source: pieces (b, longest), then -1.

    The best has the largest mean log-probability of its pieces, its end included: their sum would
    favour short texts. With one beam the search is greedy.
    """
    b, device = len(batch.input_ids), batch.input_ids.device
    first = torch.arange(b, device=device)[:, None]
    starts = batch.input_ids[:, :1].expand(b, beams)
    ends = batch.input_ids.gather(1, batch.attention_mask.sum(1, keepdim=True) - 1)  # (b, 1)
    texts = torch.full((b, beams, longest), -1, device=device)
    done = torch.zeros(b, beams, dtype=torch.bool, device=device)
    sums, lengths = torch.zeros(2, b, beams, device=device)
    sums[:, 1:] = -torch.inf  # all beams begin alike: one is enough
    pieces, rows = starts, torch.arange(b * beams, device=device)
    for place in range(longest):
        following = step(pieces.flatten(), rows.flatten()).unflatten(0, (b, beams))
        # A text that is done stays as it is: its end follows.
        only_end = torch.full_like(following[:, :1], -torch.inf).scatter(2, ends[..., None], 0.0)
        totals = sums[..., None] + torch.where(done[..., None], only_end, following)
        lengths = lengths + ~done
        best = (totals / lengths[..., None]).flatten(1).topk(beams).indices
        parents, pieces = best // following.shape[2], best % following.shape[2]
        sums, lengths = totals.flatten(1).gather(1, best), lengths.gather(1, parents)
        texts = texts.gather(1, parents[..., None].expand_as(texts))
        done = done.gather(1, parents) | (pieces == ends)
        texts[:, :, place] = pieces.masked_fill(done, -1)
        if done.all():
            break
        rows = first * beams + parents
    return texts[:, 0]
