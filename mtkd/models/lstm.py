"""A bi-attentive LSTM student in the encoder's place: two sentences to one vector.

After the Biattentive Classification Network (McCann et al. 2017, arXiv:1708.00107; two of its authors wrote MKD too). That
MKD's "bi-attentive student neural network" (its figure 2) is this network is an inference from the name: its full text
was not at hand. From McCann et al. and allennlp-models' code: a BiLSTM over each sentence, A = X·Yᵀ with a masked softmax
both ways, a BiLSTM over [X; X − C; X ⊙ C], max, min, mean and self-attentive pooling, a single sentence that attends to
itself. This project's choices: word pieces in place of words, one integrator for both sentences, no feed-forward layer
before the BiLSTM, one shared layer of rectified linear units (in place of maxout layers a task) under a linear head a
task, all sizes, and fp32 throughout.

Dimension letters: b examples, n word pieces, e embedding width, h LSTM width of a direction, d = 2h.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mtkd.data.dataset import Batch
from mtkd.errors import UserError

GREATEST = 1e6  # of a word vector's numbers


class BiLstm(nn.Module):
    """Packed bidirectional LSTM: (b, n, in) with lengths (b,) to (b, n, 2h); what lies behind a length is zero."""

    def __init__(self, width: int, hidden: int, layers: int = 1):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True)
        self.width = 2 * hidden

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=values.shape[1]
        )[0]

    def flops(self, positions: int) -> int:
        """Floating-point operations of the matrix products (two a multiplication and addition) over that many word pieces."""
        sizes = [self.lstm.input_size] + [self.width] * (self.lstm.num_layers - 1)
        return sum(
            2 * 2 * positions * 4 * self.lstm.hidden_size * (size + self.lstm.hidden_size)
            for size in sizes
        )


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension where `mask` is true; zero elsewhere."""
    return F.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)


def bi_attention(
    x: torch.Tensor, y: torch.Tensor, mask_x: torch.Tensor, mask_y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts of X (b, n, d) from Y (b, m, d) and the reverse: softmax(X·Yᵀ)·Y and softmax(Y·Xᵀ)·X.

    Masks (b, n) and (b, m) are true on word pieces; padding gets no weight. Rows of padding hold no meaning.
    """
    affinity = x @ y.transpose(1, 2)
    of_x = masked_softmax(affinity, mask_y[:, None, :]) @ y
    of_y = masked_softmax(affinity.transpose(1, 2), mask_x[:, None, :]) @ x
    return of_x, of_y


def sentences(batch: Batch, pair: bool | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Word pieces (b, n) and lengths (b,) of the first sentence, and of the second where the batch has one.

    They are cut from `[CLS] A [SEP] B [SEP]` by the segments; an empty sentence keeps its [SEP], so that no length is zero.
    Where `pair` says whether there is a second, n is the batch's width, and no shape depends on what the batch holds: for export.
    """
    second = batch.token_type_ids.bool() & batch.attention_mask.bool()
    first = batch.attention_mask.bool() & ~second
    ends, count = first.sum(1), second.sum(1)
    cut = [(torch.where(ends > 2, 1, ends - 1), (ends - 2).clamp_min(1))]
    if bool(second.any()) if pair is None else pair:
        cut.append((ends, (count - 1).clamp_min(1)))
    found = []
    for start, lengths in cut:
        place = torch.arange(
            int(lengths.max()) if pair is None else batch.input_ids.shape[1], device=start.device
        )
        where = (start[:, None] + place).clamp_max(batch.input_ids.shape[1] - 1)
        found.append((batch.input_ids.gather(1, where), lengths))
    return found


class BiAttentiveEncoder(nn.Module):
    """Word pieces of one or two sentences to one vector an example (b, width).

    A single sentence is its own second: computed once, as both inputs would be the same.
    """

    initializer_range = 0.02

    def __init__(
        self,
        table: torch.Tensor,
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

    def forward(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(
            batch.input_ids.device.type, enabled=False
        ):  # a recurrence of hundreds of steps stays in fp32
            return self.read(sentences(batch))

    def read(self, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """One vector an example from its `sentences`, in fp32."""
        longest = max(pieces.shape[1] for pieces, _ in parts)
        pieces = torch.cat(
            [F.pad(pieces, (0, longest - pieces.shape[1])) for pieces, _ in parts]
        )  # (b or 2b, n)
        lengths = torch.cat([lengths for _, lengths in parts])
        mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
        read = self.reader(self.dropout(self.embeddings(pieces)), lengths)
        if len(parts) == 1:
            context = masked_softmax(read @ read.transpose(1, 2), mask[:, None, :]) @ read
        else:
            context = torch.cat(bi_attention(*read.chunk(2), *mask.chunk(2)))
        read = self.dropout(torch.cat([read, read - context, read * context], dim=-1))
        pooled = self.pool(self.integrator(read, lengths), mask)
        pair = torch.cat(
            [pooled, pooled] if len(parts) == 1 else pooled.chunk(2), dim=-1
        )  # (b, 8d)
        return F.relu(self.merge(self.dropout(pair)))

    def pool(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Max, min, mean and self-attentive pooling over the word pieces: (b, n, d) to (b, 4d)."""
        inside = mask[..., None]
        weights = masked_softmax(self.attend(values).squeeze(-1), mask)
        return torch.cat(
            [
                values.masked_fill(~inside, -torch.inf).amax(1),
                values.masked_fill(~inside, torch.inf).amin(1),
                (values * inside).sum(1) / inside.sum(1),
                (weights[..., None] * values).sum(1),
            ],
            dim=-1,
        )


def own_table(pieces: int, width: int) -> torch.Tensor:
    """Embeddings (pieces, e) drawn from N(0, 1), torch's default."""
    return torch.randn(pieces, width)


def projected_table(table: torch.Tensor, width: int) -> torch.Tensor:
    """A teacher's word-piece table (pieces, H) on its first `width` principal directions, scaled to unit variance (our choice)."""
    if width > table.shape[1]:
        raise UserError(
            f"The student's embedding width {width} is above the teacher's {table.shape[1]}, whose table cannot be projected "
            f"up: set width to at most {table.shape[1]}, or embeddings: own."
        )
    centred = table.double() - table.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    found = centred @ directions[:, -width:]
    return (found / found.std()).float()


def vectors_table(path: Path, vocabulary: dict[str, int]) -> torch.Tensor:
    """Word vectors of GloVe's text format (a word and its numbers a line) for a tokenizer's pieces: (pieces, e).

    A piece that is a whole word of the file gets that word's vector; the others are drawn with the mean and deviation of
    those found. Raises `UserError` where the file cannot be read, or lines differ in width.
    """
    found: dict[int, np.ndarray] = {}
    width = None
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, *values = line.rstrip().split(" ")
                if number == 1 and len(values) == 1:
                    continue  # word2vec's header: words and width
                width = width or len(values)
                if len(values) != width or not values:
                    raise UserError(
                        f"{path}, line {number}: {len(values)} numbers, the lines before have {width}: give a file in GloVe's "
                        "text format, a word and its numbers a line."
                    )
                if word in vocabulary:
                    found[vocabulary[word]] = vector = np.array(values, dtype=np.float64)
                    if not np.abs(vector).max() < GREATEST:
                        raise UserError(
                            f"{path}, line {number}: a number of '{word}' is not finite or above {GREATEST:g}: correct it."
                        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"The word vectors {path} cannot be read ({str(error)[:100]}): give a UTF-8 file in GloVe's text format, a word "
            "and its numbers a line."
        ) from None
    if not found:
        raise UserError(
            f"{path} holds no word of the tokenizer's {len(vocabulary)}: give vectors of the study's language and case."
        )
    known = torch.from_numpy(np.stack(list(found.values())).astype(np.float32))
    deviation = known.std() if known.numel() > 1 else torch.zeros(())
    table = torch.randn(max(vocabulary.values()) + 1, width) * deviation + known.mean()
    table[list(found)] = known
    return table
