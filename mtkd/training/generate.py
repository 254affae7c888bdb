"""Texts that models write, and how much of the correct ones they hold (ROUGE-L)."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mtkd.data.dataset import TARGET, Batch, Examples
from mtkd.data.sampler import length_batches
from mtkd.models.decoder import Step, search
from mtkd.models.multitask import MultiTaskModel
from mtkd.training.precision import autocast
from mtkd.training.predict import CPU_BATCH, GPU_BATCH

CPU = torch.device("cpu")
# Maps a batch and a number of beams to what continues its texts (`TextDecoder.begin`).
Begin = Callable[[Batch, int], Step]


@torch.inference_mode()
def generate(
    members: Sequence[tuple[MultiTaskModel, Examples]], precision: str = "fp32"
) -> np.ndarray:
    """Return the word pieces of n examples' texts, in their order: (n, max_target), then -1.

    Members are models on one device with the examples as word pieces of one vocabulary. Of several,
    the probability of a next piece is their mean, Eq. 3 of MT-DNN_KD for a piece.
    """
    device = next(members[0][0].parameters()).device
    for model, _ in members:
        model.eval()
    with autocast(device.type, precision):
        return write([(model.begin, examples) for model, examples in members], device)


@torch.inference_mode()
def write(writers: Sequence[tuple[Begin, Examples]], device: torch.device = CPU) -> np.ndarray:
    """Return what `generate` does, of whatever continues texts."""
    examples = writers[0][1]
    task, most = examples.task, CPU_BATCH if device.type == "cpu" else GPU_BATCH
    sizes = np.maximum(examples.lengths, task.max_target) * task.beam
    texts = np.empty((len(examples), task.max_target), dtype=np.int64)
    for rows in length_batches(sizes, most):
        batches = [one.batch(rows).to(device) for _, one in writers]
        pairs = zip(writers, batches, strict=True)
        steps = [begin(batch, task.beam) for (begin, _), batch in pairs]
        found = search(_averaged(steps), batches[0], task.beam, task.max_target)
        texts[rows] = found.cpu().numpy()
    return texts


def _averaged(steps: list[Step]) -> Step:
    """Return what gives the logarithms of mean probabilities."""
    if len(steps) == 1:
        return steps[0]

    def step(pieces: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        logs = torch.stack([one(pieces, rows) for one in steps])
        return logs.logsumexp(0) - np.log(len(steps))

    return step


def to_texts(pieces: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return word pieces (n, m), padded with -1, as n texts."""
    kept = [row[row >= 0].tolist() for row in pieces]
    return tokenizer.batch_decode(kept, skip_special_tokens=True)


def with_rouge(examples: Examples, pieces: np.ndarray) -> np.ndarray:
    """Return the outputs of texts that were written (n, m): their ROUGE-L before them (n, 1 + m).

    It is NaN where the correct text is unknown.
    """
    correct = examples.split[TARGET]
    written = to_texts(pieces, examples.tokenizer)
    return np.concatenate([rouge_l(written, correct)[:, None], pieces], axis=1).astype(np.float32)


class _Words:
    """Words as rouge_score finds them in English, but of letters of any script."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text in lower case."""
        return re.findall(r"[^\W_]+", text.lower())


def rouge_l(written: Sequence[str], correct: Sequence[str]) -> np.ndarray:
    """Return the F1 of the longest common subsequence of words, 0 to 1 (ROUGE-L, Lin 2004).

    Words are not stemmed. NaN where the correct text is empty.
    """
    from rouge_score.rouge_scorer import RougeScorer  # brings NLTK, a second

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return np.array(
        [
            scorer.score(right, text)["rougeL"].fmeasure if right else np.nan
            for text, right in zip(written, correct, strict=True)
        ]
    )
