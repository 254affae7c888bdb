"""Output layers: a linear map of the shared vector, or the stochastic answer network."""

import torch
from torch import Tensor, nn

from mtkd.config.training import HeadKind
from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models.decoder import TextDecoder
from mtkd.models.lstm import masked_softmax
from mtkd.models.sentences import sentence_masks
from mtkd.tasks import Task


def new_head(kind: HeadKind, task: Task, encoder: nn.Module) -> nn.Module:
    """Return a task's output layer on an encoder; seed first, then `init_head`.

    `linear` is an `nn.Linear` on the encoder's vector (b, width), or on those of words; the others
    read all word pieces, `states` (b, n, states_width), and the batch. Texts to write have a
    decoder. Raises `UserError` for a `san` where there are not two texts with one label.
    """
    if kind == "linear" and task.generates:
        return TextDecoder(encoder.table, encoder.states_width, task.max_target)
    if kind == "linear":
        return nn.Linear(encoder.states_width if task.by_word else encoder.width, task.num_outputs)
    if len(task.columns) != 2 or task.by_unit:
        needs = f"two texts with one label, which {task.title} has not"
        raise UserError(f"A {kind} head is for {needs}: make it linear.")
    return SanHead(encoder.states_width, task.num_outputs)


def init_head(head: nn.Module, std: float) -> None:
    """Draw the weights of a head's linear maps, and set biases to 0; a decoder has its own."""
    if isinstance(head, TextDecoder):
        return
    for linear in (module for module in head.modules() if isinstance(module, nn.Linear)):
        nn.init.normal_(linear.weight, std=std)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


class SanHead(nn.Module):
    """Stochastic answer network (SAN, Liu, Duh and Gao 2018, arXiv:1804.07888) for pairs of texts.

    MT-DNN's output layer for pairs (Liu et al. 2019, arXiv:1901.11504, section 3). With the states
    P of the first text (premise) and H of the second (hypothesis), it makes K steps, k = 1 ... K:

        s_0 = Σ softmax(w·H) H                       summary of the hypothesis
        x_k = Σ softmax(s_{k-1}' W P) P              what the premise says to it
        s_k = GRU(x_k, s_{k-1})
        p_k = softmax(V [s_k; x_k; |s_k - x_k|; s_k ⊙ x_k])

    and predicts the mean of the p_k. In training some p_k are left out of it at random (stochastic
    prediction dropout). K = 5 and the dropout of 0.2 are from the papers.

    This project's choices: p_k is of x_k and s_k (the papers count from 0 and leave x_0 open; the
    authors' code pairs x_k with s_{k-1}). Scores of the attention to P are divided by √d. Special
    tokens belong to no text; an empty text is its [SEP]. Dropped steps are drawn for each example;
    of those that would drop all, one is kept. Dropout is on the states alone, where the authors'
    code has it at every layer, and there is no weight normalisation. The score of a regression is
    the mean of V [...]. All is in fp32, as five steps of a recurrence do not bear bf16.

    Letters: b examples, n word pieces, d width of the states, K steps.
    """

    def __init__(self, width: int, outputs: int, steps: int = 5, dropout: float = 0.2):
        super().__init__()
        self.summarise = nn.Linear(width, 1, bias=False)
        self.attend = nn.Linear(width, width, bias=False)
        self.update = nn.GRU(width, width)  # for one step: GRUCell has no export to ONNX
        self.classify = nn.Linear(4 * width, outputs)
        self.steps, self.dropout = steps, dropout

    def forward(self, states: Tensor, batch: Batch) -> Tensor:
        """Return the log of the classes' mean probabilities, or mean scores: (b, outputs), fp32.

        `states` are (b, n, d). A softmax leaves such logits' probabilities as they are.
        """
        with torch.autocast(states.device.type, enabled=False):
            premise, hypothesis = sentence_masks(batch, pair=True)
            states, outputs = states.float(), []
            state = _attended(self.summarise(states).squeeze(-1), hypothesis, states)
            for _ in range(self.steps):
                scores = (states @ self.attend(state)[..., None]).squeeze(-1)
                read = _attended(scores / states.shape[-1] ** 0.5, premise, states)
                state = self.update(read[None], state[None])[1][0]
                both = [state, read, (state - read).abs(), state * read]
                outputs.append(self.classify(torch.cat(both, dim=-1)))
            return self.average(torch.stack(outputs, dim=1))

    def average(self, outputs: Tensor) -> Tensor:
        """Average the steps (b, K, outputs), in training a random part of them: (b, outputs)."""
        weights = torch.ones_like(outputs[..., :1])
        if self.training:
            drawn = torch.rand_like(weights)
            weights = ((drawn >= self.dropout) | (drawn == drawn.amax(1, keepdim=True))).float()
        weights = weights / weights.sum(1, keepdim=True)
        if outputs.shape[2] == 1:
            return (outputs * weights).sum(1)
        return (outputs.log_softmax(-1) + weights.log()).logsumexp(1)


def _attended(scores: Tensor, mask: Tensor, states: Tensor) -> Tensor:
    """Return the mean of states (b, n, d), weighted by a softmax of scores (b, n) in a mask."""
    return (masked_softmax(scores, mask)[:, None] @ states).squeeze(1)
