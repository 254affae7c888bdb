"""Texts that are made up with GLUE's statistics, and a random encoder to train on them.

An example's number of word pieces follows each task's log-normal law (of uncased BERT's word pieces
of its training set), words follow Zipf's law p(r) ~ 1 / (r + 2.7). Each word is one piece, and
there are as many as in BERT's vocabulary.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from mtkd import tasks
from mtkd.data.dataset import Examples, tokenize
from mtkd.tasks import Task

BATCH_SIZE, DROPOUT, MAX_LENGTH = 32, 0.1, 128
SPECIAL, VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), 30522
SCORED = "mnli"
SHAPES = {  # layers, width, heads
    "tiny": (1, 32, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "minilm": (6, 384, 12),
}
# Mean and standard deviation of the logarithm of an example's word pieces: about 11, 29, 51 and 61.
LENGTHS = {"cola": (2.39, 0.33), "rte": (4.11, 0.52), "mnli": (3.37, 0.44), "mrpc": (3.94, 0.26)}

datasets.disable_progress_bars()


@dataclass(frozen=True)
class Workload:
    """A round: `updates` batches of training over the first `num_tasks` tasks, or scoring."""

    folder: Path  # takes the encoder
    shape: str
    updates: int
    num_tasks: int
    scored: int  # examples

    @property
    def tasks(self) -> list[Task]:
        return [tasks.get(name) for name in list(LENGTHS)[: self.num_tasks]]

    @property
    def encoder(self) -> Path:
        return self.folder / self.shape

    @cached_property
    def tokenizer(self) -> BertTokenizerFast:
        return BertTokenizerFast.from_pretrained(self.encoder)

    def train_texts(self) -> dict[str, datasets.Dataset]:
        each, rest = divmod(self.updates, self.num_tasks)
        if rest or not each:
            raise SystemExit(f"--updates must be a multiple of the {self.num_tasks} tasks")
        return {task.name: texts(task, each * BATCH_SIZE) for task in self.tasks}

    def scored_texts(self) -> tuple[Task, datasets.Dataset]:
        return tasks.get(SCORED), texts(tasks.get(SCORED), self.scored, seed=1)

    def examples(self, task: Task, split: datasets.Dataset) -> Examples:
        pieces = tokenize(split, task, self.tokenizer, MAX_LENGTH)
        return Examples(task, pieces, "bench", self.tokenizer.pad_token_id)

    def write_encoder(self) -> None:
        """Write an encoder with random weights, and its tokenizer."""
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
        pieces = [*SPECIAL, *words()]
        tokenizer = BertTokenizerFast(vocab={piece: index for index, piece in enumerate(pieces)})
        tokenizer.model_max_length = MAX_LENGTH
        tokenizer.save_pretrained(self.encoder)


def words() -> list[str]:
    """Return made-up words of four letters, as many as BERT has word pieces."""
    letters = np.array(list("abcdefghijklmnopqrst"))
    numbers = np.arange(VOCABULARY - len(SPECIAL))[:, None]
    return ["".join(row) for row in letters[numbers // len(letters) ** np.arange(4) % len(letters)]]


def texts(task: Task, count: int, seed: int = 0) -> datasets.Dataset:
    """Return examples of a task: its text columns, label and idx."""
    random = np.random.default_rng([seed, list(LENGTHS).index(task.name)])
    pair, known = len(task.columns) == 2, np.array(words())
    chances = 1 / (np.arange(len(known)) + 2.7)
    lengths = random.lognormal(*LENGTHS[task.name], count).round()
    sizes = np.clip(lengths, 5 if pair else 3, MAX_LENGTH).astype(int) - (3 if pair else 2)
    rows: dict[str, list] = {column: [] for column in task.columns}
    for size in sizes:
        drawn = random.choice(known, size, p=chances / chances.sum())
        cut = max(1, round(0.6 * size)) if pair else size
        for column, part in zip(task.columns, (drawn[:cut], drawn[cut:]), strict=False):
            rows[column].append(" ".join(part))
    labels = random.integers(0, task.num_outputs, count)
    return datasets.Dataset.from_dict({**rows, "label": labels, "idx": np.arange(count)})
