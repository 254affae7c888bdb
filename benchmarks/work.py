"""The work that every contender does: the same texts, labels, tokenizer and encoder of random weights.

The texts are made up, their statistics are GLUE's: word pieces an example follow each task's log-normal law (mean and
deviation of the logarithm, measured on its train set), words Zipf's law p(r) ~ 1 / (r + 2.7), which gives the number of
different word pieces of 500,000 that GLUE has. Each word is one piece, so that the vocabulary's size is BERT's.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging

from mtkd import tasks
from mtkd.data.dataset import Examples, tokenise
from mtkd.tasks import Task
from mtkd.training.wordpiece import SPECIAL_TOKENS

logging.disable_progress_bar()
datasets.disable_progress_bars()

BATCH, LEARNING_RATE, WARMUP, DROPOUT, MAX_LENGTH, VOCABULARY = 32, 1e-4, 0.1, 0.1, 128, 30522
LENGTHS = {
    "cola": (2.43, 0.33),
    "mrpc": (4.07, 0.26),
    "mnli": (3.67, 0.48),
    "qnli": (3.99, 0.35),
    "sst2": (2.41, 0.68),
    "stsb": (3.37, 0.42),
    "qqp": (3.45, 0.38),
    "rte": (4.27, 0.52),
}
SHAPES = {
    "tiny": (1, 32, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "base": (12, 768, 12),
}  # layers, width, heads


@dataclass(frozen=True)
class Work:
    """A share of the work: `updates` of BATCH examples over the first `of` tasks, in a folder with the encoder."""

    folder: Path
    shape: str
    updates: int
    of: int
    device: str

    @property
    def tasks(self) -> list[Task]:
        return [tasks.get(name) for name in list(LENGTHS)[: self.of]]

    @property
    def encoder(self) -> Path:
        return self.folder / self.shape

    @cached_property
    def tokenizer(self) -> BertTokenizerFast:
        return BertTokenizerFast.from_pretrained(self.encoder)

    def texts(self, task: Task, count: int, seed: int = 0) -> datasets.Dataset:
        """That many examples of a task: its columns, label and idx."""
        random = np.random.default_rng([seed, list(LENGTHS).index(task.name)])
        mean, deviation = LENGTHS[task.name]
        pairs = len(task.columns) == 2
        least = 5 if pairs else 3
        sizes = np.clip(random.lognormal(mean, deviation, count).round(), least, MAX_LENGTH).astype(
            int
        ) - (3 if pairs else 2)
        words = np.array(vocabulary()[len(SPECIAL_TOKENS) :])
        chances = 1 / (np.arange(len(words)) + 2.7)
        rows: dict[str, list] = {column: [] for column in task.columns}
        for size in sizes:
            line = random.choice(words, size, p=chances / chances.sum())
            cut = max(1, round(0.6 * size)) if pairs else size
            for column, part in zip(task.columns, (line[:cut], line[cut:]), strict=False):
                rows[column].append(" ".join(part))
        labels = (
            random.uniform(0, 5, count).astype("float32")
            if task.regression
            else random.integers(0, task.num_outputs, count)
        )
        return datasets.Dataset.from_dict({**rows, "label": labels, "idx": np.arange(count)})

    def examples(self, task: Task, texts: datasets.Dataset) -> Examples:
        return Examples(
            task,
            tokenise(texts, task, self.tokenizer, MAX_LENGTH),
            "bench",
            self.tokenizer.pad_token_id,
        )

    def train_texts(self) -> dict[str, datasets.Dataset]:
        """The tasks' train examples, as many of each: together `updates` batches."""
        each, left = divmod(self.updates, self.of)
        if left or not each:
            raise SystemExit(
                f"updates must be a multiple of the {self.of} tasks, not {self.updates}"
            )
        return {task.name: self.texts(task, each * BATCH) for task in self.tasks}

    def prepare(self) -> None:
        """Writes the encoder and the tokenizer."""
        layers, hidden, heads = SHAPES[self.shape]
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            hidden_dropout_prob=DROPOUT,
            attention_probs_dropout_prob=DROPOUT,
        )
        BertModel(config).save_pretrained(self.encoder)
        tokenizer = BertTokenizerFast(
            vocab={piece: place for place, piece in enumerate(vocabulary())}
        )
        tokenizer.model_max_length = MAX_LENGTH
        tokenizer.save_pretrained(self.encoder)


def vocabulary() -> list[str]:
    """BERT's number of pieces: the special ones, then made-up words of four letters."""
    letters = "abcdefghijklmnopqrst"
    digits = (
        np.arange(VOCABULARY - len(SPECIAL_TOKENS))[:, None] // len(letters) ** np.arange(4)
    ) % len(letters)
    return [*SPECIAL_TOKENS, *("".join(letters[place] for place in row) for row in digits)]


def flops(shape: str, lengths: np.ndarray, training: bool) -> float:
    """Operations of the encoder's matrix products on examples of these lengths (a multiplication and an addition are two).

    Real word pieces only: padding, element-wise work, the embeddings and the heads do not count, nor what mtkd leaves out of
    the last layer, whose other places than [CLS] nothing reads. A training step counts three times its forward pass.
    """
    layers, hidden, _ = SHAPES[shape]
    n = lengths.astype(float)
    whole = 24 * hidden**2 * n + 4 * hidden * n**2
    last = 4 * hidden**2 * n + 4 * hidden * n + 20 * hidden**2
    return float(((layers - 1) * whole + last).sum() * (3 if training else 1))
