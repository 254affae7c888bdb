"""Layer-wise distillation, PKD and MiniLM: baselines for a Transformer student of MKD.

Each is a loss that is added to the task's. It is given a student with layers of its teacher's
architecture, and is called with a batch that the student has just read: the teacher then reads it
too, in eval mode and without gradient, for its hidden states are too large to be stored.
"""

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from mtkd.data.dataset import Batch
from mtkd.models.encoders import layers_of, projections
from mtkd.models.multitask import MultiTaskModel, mean_pool


def patient_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error of L2-normalised hidden states (PKD, Sun et al. 2019, section 3.2).

    Both are (b, layers, d). The mean is over d, too, as in the authors' code, for which their
    weights of 10 to 1000 are.
    """
    return F.mse_loss(F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1))


def relation_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """KL divergence of a student's self-attention relations from its teacher's.

    Relations of queries, keys or values A (b, heads, n, d) are softmax(A A' / sqrt(d)) (MiniLMv2,
    Wang et al. 2020, arXiv:2012.15828, section 3). Mean over the heads and an example's positions
    in `mask` (b, n), then over the examples; other positions have no part in it. The models may
    differ in d, not in their number of heads.
    """
    inside = mask.bool()

    def relations(vectors: torch.Tensor) -> torch.Tensor:
        products = vectors @ vectors.transpose(-1, -2) / vectors.shape[-1] ** 0.5
        hidden = products.float().masked_fill(~inside[:, None, None], torch.finfo().min)
        return hidden.log_softmax(-1)

    pair = relations(student), relations(teacher)
    divergence = F.kl_div(*pair, reduction="none", log_target=True).sum(-1).mean(1)
    return mean_pool(divergence[..., None], mask).mean()


class LayerwiseLoss:
    """Hidden states of a student and of its teacher on the same batch.

    Hidden state i of an encoder is the output (b, n, d) of its layer i (from 1), and 0 that of its
    embeddings.

    Args:
        student: is given hooks that keep the hidden states; nothing else of it changes.
        teacher: its encoder is frozen.
        pairs: hidden states to keep, (the student's, the teacher's).
    """

    def __init__(
        self, student: MultiTaskModel, teacher: MultiTaskModel, pairs: list[tuple[int, int]]
    ):
        self.pairs, self.teacher = pairs, teacher.encoder.eval().requires_grad_(False)
        self.student_states = _keep_states(student.encoder.model, [mine for mine, _ in pairs])
        self.teacher_states = _keep_states(self.teacher.model, [theirs for _, theirs in pairs])

    def states(self, batch: Batch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the student's and the teacher's hidden states; the student's are then let go."""
        with torch.no_grad():
            self.teacher.to(batch.input_ids.device)(batch)
        mine = [self.student_states.pop(index) for index, _ in self.pairs]
        return mine, [self.teacher_states[index] for _, index in self.pairs]


class PatientLoss(LayerwiseLoss):
    """PKD-Skip (Sun et al. 2019, arXiv:1908.09355): the patient loss times `weight`.

    A student of k layers learns its layers 1 to k - 1 from every (n / k)-th of the teacher's n,
    rounded down; the last is left out. The paper takes the hidden states of [CLS]; here they are
    pooled as for the heads: the mean over all word pieces where `pooling` is that, else [CLS].
    """

    def __init__(self, student: MultiTaskModel, teacher: MultiTaskModel, weight: float):
        layers, count = (len(layers_of(model.encoder.model)) for model in (teacher, student))
        skip = [(i, i * layers // count) for i in range(1, count)]
        super().__init__(student, teacher, skip)
        self.weight = weight
        del layers_of(self.teacher.model)[skip[-1][1] :]  # no layer above is read

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, a scalar."""

        def pooled(states: list[torch.Tensor]) -> torch.Tensor:
            if self.teacher.pooling == "mean":
                return torch.stack([mean_pool(one, batch.attention_mask) for one in states], 1)
            return torch.stack([one[:, 0] for one in states], 1)

        return self.weight * patient_loss(*map(pooled, self.states(batch)))


class RelationLoss(LayerwiseLoss):
    """MiniLMv2 (Wang et al. 2020, arXiv:2012.15828): relations among queries, keys and values.

    The three losses of the last layers, with the weight 1 each and the models' own heads. The paper
    distils on plain text before any fine-tuning, by this alone; here it is added to the loss on
    logits, on the tasks' texts.
    """

    def __init__(self, student: MultiTaskModel, teacher: MultiTaskModel):
        layers = [layers_of(model.encoder.model) for model in (student, teacher)]
        super().__init__(student, teacher, [(len(layers[0]) - 1, len(layers[1]) - 1)])
        self.last = [projections(each[-1]) for each in layers]
        self.heads = [
            model.encoder.model.config.num_attention_heads for model in (student, teacher)
        ]

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, a scalar."""
        (mine,), (theirs,) = self.states(batch)
        vectors = map(_projected, self.last, self.heads, (mine, theirs))
        losses = [relation_loss(*pair, batch.attention_mask) for pair in zip(*vectors, strict=True)]
        return torch.stack(losses).sum()


def _projected(maps: list[nn.Linear], heads: int, hidden: torch.Tensor) -> list[torch.Tensor]:
    """Return queries, keys and values (b, heads, n, d) of all positions.

    The layer itself may have those of [CLS] alone (`mtkd.models.fast_cpu.ClsLayer`).
    """
    return [linear(hidden).unflatten(-1, (heads, -1)).transpose(1, 2) for linear in maps]


def _keep_states(model: PreTrainedModel, indices: Iterable[int]) -> dict[int, torch.Tensor]:
    """Return a dictionary to which every forward pass writes these hidden states."""
    states: dict[int, torch.Tensor] = {}
    layers = layers_of(model)
    for index in indices:
        if index:
            layers[index - 1].register_forward_hook(partial(_keep_output, states, index))
        else:
            layers[0].register_forward_pre_hook(partial(_keep_input, states))
    return states


def _keep_input(states: dict, layer: nn.Module, inputs: tuple) -> None:
    states[0] = inputs[0]


def _keep_output(
    states: dict, index: int, layer: nn.Module, inputs: tuple, output: torch.Tensor | tuple
) -> None:
    states[index] = output[0] if isinstance(output, tuple) else output
