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


def split_sentences(batch: Batch, pair: bool | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return word pieces (b, n) and lengths (b,) of the first and, if any, of the second sentences.

    They are cut from `[CLS] A [SEP] B [SEP]` by the segments (RoBERTa has two separators between A
    and B); an empty sentence keeps its [SEP], so that no length is 0. If `pair` says whether there
    is a second one, n is the batch's width and no shape depends on values, as an export needs it.
    """
    second = batch.token_type_ids.bool() & batch.attention_mask.bool()
    first = batch.attention_mask.bool() & ~second
    starts, count = first.sum(1), second.sum(1)
    near = (starts[:, None] - torch.tensor([1, 2], device=starts.device)).clamp_min(0)
    last, before = batch.input_ids.gather(1, near).unbind(1)
    ends = starts - ((last == before) & (starts > 2) & (count > 0)).long()
    spans = [(torch.where(ends > 2, 1, ends - 1), (ends - 2).clamp_min(1))]
    if bool(second.any()) if pair is None else pair:
        spans.append((starts, (count - 1).clamp_min(1)))
    width, parts = batch.input_ids.shape[1], []
    for start, lengths in spans:
        n = int(lengths.max()) if pair is None else width
        columns = start[:, None] + torch.arange(n, device=start.device)
        parts.append((batch.input_ids.gather(1, columns.clamp_max(width - 1)), lengths))
    return parts


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
        self.width = output

    def forward(self, batch: Batch) -> Tensor:
        """Encode a batch, in fp32: a recurrence of hundreds of steps does not bear bf16."""
        with torch.autocast(batch.input_ids.device.type, enabled=False):
            return self.encode(split_sentences(batch))

    def encode(self, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Encode what `split_sentences` returns: (b, width)."""
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
        pooled = self.pool(self.integrator(read, lengths), mask)
        both = [pooled, pooled] if len(parts) == 1 else pooled.chunk(2)
        return F.relu(self.merge(self.dropout(torch.cat(both, dim=-1))))

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
