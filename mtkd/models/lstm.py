"""A bi-attentive LSTM in the encoder's place: two sentences to one vector (student of MKD).

It is the Biattentive Classification Network (McCann et al. 2017, arXiv:1708.00107). That this is
the "bi-attentive student neural network" of MKD (Liu et al. 2019, arXiv:1911.03588, Figure 2) is
inferred from the name and two common authors; MKD's full text was not available. From McCann et al.
and from allennlp-models' code: a BiLSTM over each sentence, A = X·Yᵀ with
a masked softmax both ways, a BiLSTM over [X; X − C; X ⊙ C], max, min, mean and self-attentive
pooling, a single sentence that attends to itself. This project's choices: word pieces, one
integrator for both sentences, no feed-forward layer before the BiLSTM, one shared rectified linear
layer in place of a task's maxout layers, all sizes, and fp32 throughout.

Letters: b examples, n word pieces, e embedding width, h LSTM width of a direction, d = 2h.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models.sentences import sentence_spans, split_sentences


class BiLstm(nn.Module):
    """A packed bidirectional LSTM: (b, n, in) with lengths (b,) to (b, n, 2h), 0 at padding."""

    def __init__(self, width: int, hidden: int, layers: int = 1):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True)
        self.width = 2 * hidden

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Read the sequences."""
        packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        n = values.shape[1]
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=n)[0]

    def flops(self, positions: int) -> int:
        """Return the operations, 2 per multiply-add, of the matrix products at these positions."""
        hidden, layers = self.lstm.hidden_size, self.lstm.num_layers
        inputs = self.lstm.input_size + (layers - 1) * self.width
        return 2 * 2 * positions * 4 * hidden * (inputs + layers * hidden)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return a softmax over the last dimension where `mask` is true, 0 elsewhere."""
    return F.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)


def bi_attention(x: Tensor, y: Tensor, mask_x: Tensor, mask_y: Tensor) -> tuple[Tensor, Tensor]:
    """Return contexts of X (b, n, d) from Y (b, m, d) and of Y from X.

    They are softmax(X·Yᵀ)·Y and softmax(Y·Xᵀ)·X. The masks (b, n) and (b, m) are true on word
    pieces; padding gets no weight, and its own rows mean nothing.
    """
    affinity = x @ y.transpose(1, 2)
    of_x = masked_softmax(affinity, mask_y[:, None, :]) @ y
    of_y = masked_softmax(affinity.transpose(1, 2), mask_x[:, None, :]) @ x
    return of_x, of_y


class BiAttentiveEncoder(nn.Module):
    """Word pieces of one or two sentences to one vector per example (b, width).

    `table` (pieces, e) holds the initial embeddings. A single sentence is also its second one: it
    is computed once, as both inputs would be the same.
    """

    initializer_range = 0.02

    def __init__(
        self,
        table: Tensor,
        *,
        hidden: int,
        layers: int = 1,
        output: int = 256,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.embeddings = nn.Embedding.from_pretrained(table, freeze=False)
        self.reader = BiLstm(table.shape[1], hidden, layers)
        self.integrator = BiLstm(3 * self.reader.width, hidden)
        self.attend = nn.Linear(self.integrator.width, 1)
        self.merge = nn.Linear(8 * self.integrator.width, output)
        self.dropout = nn.Dropout(dropout)
        self.width, self.states_width = output, self.integrator.width

    def forward(self, batch: Batch) -> Tensor:
        """Encode a batch, in fp32: a recurrence of hundreds of steps does not bear bf16."""
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            return self.encode(split_sentences(batch))

    def states(self, batch: Batch, pair: bool | None = None) -> Tensor:
        """Return the integrator's outputs at the batch's positions: (b, n, states_width), in fp32.

        They are 0 at padding and special tokens, other than the [SEP] that an empty sentence is;
        `pair` is as in `sentence_spans`.
        """
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            parts, spans = split_sentences(batch, pair), sentence_spans(batch, pair)
            values, _ = self.integrate(parts)
            position = torch.arange(batch.input_ids.shape[1], device=values.device)
            states = []
            for part, (start, length) in zip(values.chunk(len(parts)), spans, strict=True):
                at = position - start[:, None]  # (b, n): a position's place in its sentence
                inside = (at >= 0) & (at < length[:, None])
                rows = at.clamp(0, part.shape[1] - 1)[..., None].expand(-1, -1, self.states_width)
                states.append(part.gather(1, rows) * inside[..., None])
            return sum(states)

    def encode(self, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Encode what `split_sentences` returns: (b, width)."""
        values, mask = self.integrate(parts)
        pooled = self.pool(values, mask)
        both = [pooled, pooled] if len(parts) == 1 else pooled.chunk(2)
        return F.relu(self.merge(self.dropout(torch.cat(both, dim=-1))))

    def integrate(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Read the sentences with their contexts: (b or 2b, n, d), 0 at padding, and its mask."""
        n = max(pieces.shape[1] for pieces, _ in parts)
        pieces = torch.cat([F.pad(pieces, (0, n - pieces.shape[1])) for pieces, _ in parts])
        lengths = torch.cat([lengths for _, lengths in parts])  # (b or 2b,)
        mask = torch.arange(n, device=lengths.device) < lengths[:, None]
        read = self.reader(self.dropout(self.embeddings(pieces)), lengths)
        if len(parts) == 1:
            context = masked_softmax(read @ read.transpose(1, 2), mask[:, None, :]) @ read
        else:
            context = torch.cat(bi_attention(*read.chunk(2), *mask.chunk(2)))
        read = self.dropout(torch.cat([read, read - context, read * context], dim=-1))
        return self.integrator(read, lengths), mask

    def pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool word pieces by max, min, mean and self-attention: (b, n, d) to (b, 4d)."""
        inside = mask[..., None]
        weights = masked_softmax(self.attend(values).squeeze(-1), mask)
        highest = values.masked_fill(~inside, -torch.inf).amax(1)
        lowest = values.masked_fill(~inside, torch.inf).amin(1)
        mean = (values * inside).sum(1) / inside.sum(1)
        attended = (weights[..., None] * values).sum(1)
        return torch.cat([highest, lowest, mean, attended], dim=-1)


def projected_table(table: Tensor, width: int) -> Tensor:
    """Project a teacher's embeddings (pieces, H) on their first principal directions: (pieces, e).

    They are scaled to unit variance. Both are this project's choice. Raises `UserError` where
    `width` is above H.
    """
    check_width(width, table.shape[1])
    centred = table.double() - table.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    projected = centred @ directions[:, -width:]
    return (projected / projected.std()).float()


def check_width(width: int, teacher_width: int) -> None:
    """Raise `UserError` where an LSTM's embeddings are wider than those that they come from."""
    if width > teacher_width:
        above = f"{width} is above the width of the teacher's embeddings, {teacher_width}"
        raise UserError(f"embedding_dim: {above}: lower it, or take embeddings: own.")
