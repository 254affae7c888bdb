"""The stochastic answer network against a loop over examples and words, and in a model."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from families import FAMILIES, config_of
from helpers import some_examples
from small_training import small_model, small_run
from transformers import AutoModel

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.models.heads import SanHead, new_head
from mtkd.models.lstm import BiAttentiveEncoder
from mtkd.models.multitask import TransformerEncoder
from mtkd.models.sentences import sentence_masks
from mtkd.training.loop import train

WIDTH = 6


def head(outputs: int = 3, **options) -> SanHead:
    torch.manual_seed(0)
    made = SanHead(WIDTH, outputs, **options)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made.eval()


def batch_of(count: int = 5, name: str = "mnli"):
    return some_examples(tasks.get(name), count).batch(np.arange(count))


def states_of(batch, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(*batch.input_ids.shape, WIDTH)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def softmax(scores) -> np.ndarray:
    powers = np.exp(np.array(scores) - np.max(scores))
    return powers / powers.sum()


def steps_by_hand(san: SanHead, premise: list[np.ndarray], hypothesis: list[np.ndarray]) -> list:
    """Return V [s; x; |s - x|; s * x] of every step, by the formulas of the docstring."""
    weights = {name: one.detach().numpy() for name, one in san.named_parameters()}
    of_input, of_state = weights["update.weight_ih_l0"], weights["update.weight_hh_l0"]
    input_bias, state_bias = weights["update.bias_ih_l0"], weights["update.bias_hh_l0"]
    parts = [slice(part * WIDTH, (part + 1) * WIDTH) for part in range(3)]
    alpha = softmax([weights["summarise.weight"][0] @ word for word in hypothesis])
    state = sum(a * word for a, word in zip(alpha, hypothesis, strict=True))
    outputs = []
    for _ in range(san.steps):
        asked = weights["attend.weight"] @ state
        beta = softmax([asked @ word / math.sqrt(WIDTH) for word in premise])
        read = sum(b * word for b, word in zip(beta, premise, strict=True))
        mine = [of_input[part] @ read + input_bias[part] for part in parts]
        kept = [of_state[part] @ state + state_bias[part] for part in parts]
        reset, update = sigmoid(mine[0] + kept[0]), sigmoid(mine[1] + kept[1])
        new = np.tanh(mine[2] + reset * kept[2])
        state = (1 - update) * new + update * state
        both = np.concatenate([state, read, np.abs(state - read), state * read])
        outputs.append(weights["classify.weight"] @ both + weights["classify.bias"])
    return outputs


def words_of(batch, states) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Return each example's word vectors of both texts, by where its second one begins."""
    texts = []
    for mask, types, vectors in zip(
        batch.attention_mask, batch.token_type_ids, states, strict=True
    ):
        second, end = int(types.argmax()), int(mask.sum()) - 1
        first = range(1, second - 1) or [1]  # the separator of an empty text
        texts.append([[vectors[at].numpy() for at in part] for part in (first, range(second, end))])
    return texts


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 5])
def test_logits_are_the_log_of_the_steps_mean_probability(steps):
    batch, san = batch_of(), head(steps=steps)
    states = states_of(batch)
    logits = san(states, batch)
    for row, (premise, hypothesis) in enumerate(words_of(batch, states)):
        probabilities = [softmax(output) for output in steps_by_hand(san, premise, hypothesis)]
        assert len(probabilities) == steps
        np.testing.assert_allclose(logits[row].exp(), np.mean(probabilities, axis=0), atol=1e-5)
    torch.testing.assert_close(logits.softmax(1), logits.exp())
    assert logits.std(0).min() > 0.1


@torch.no_grad()
def test_the_score_of_a_regression_is_the_steps_mean():
    batch, san = batch_of(name="stsb"), head(outputs=1)
    states = states_of(batch)
    expected = [np.mean(steps_by_hand(san, *texts)) for texts in words_of(batch, states)]
    np.testing.assert_allclose(san(states, batch)[:, 0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_only_the_texts_are_read():
    batch, san = batch_of(), head()
    states, other = states_of(batch), states_of(batch, seed=2)
    read = torch.stack(sentence_masks(batch)).any(0)
    assert torch.equal(san(states, batch), san(states.where(read[..., None], other * 100), batch))
    for text in sentence_masks(batch):
        changed = san(states.where(~text[..., None], other), batch)
        assert (changed - san(states, batch)).abs().amax(1).min() > 1e-3


@torch.no_grad()
def test_an_empty_text_is_its_separator():
    made = some_examples(tasks.get("rte"), 4)
    batch = made.batch(np.arange(4))
    types = torch.zeros_like(batch.token_type_ids)
    types[torch.arange(4), batch.attention_mask.sum(1) - 1] = 1  # the last [SEP] alone
    batch = dataclasses.replace(batch, token_type_ids=types)
    assert head()(states_of(batch), batch).isfinite().all()


def test_steps_are_dropped_in_training_alone_and_never_all():
    torch.manual_seed(0)
    outputs = 2.0 ** torch.arange(5.0)[:, None].expand(4000, 5, 1)  # a mean tells what is in it
    whole = torch.full((4000, 1), 31 / 5)
    san = head(dropout=0.5)
    assert torch.allclose(san.average(outputs), whole)
    means = san.train().average(outputs)
    kept = [[2**step for step in range(5) if bits >> step & 1] for bits in range(1, 32)]
    possible = {round(sum(values) / len(values), 2) for values in kept}
    assert {round(mean, 2) for mean in means[:, 0].tolist()} == possible
    assert means.isclose(whole).float().mean().item() == pytest.approx(0.5**5, abs=0.01)
    assert torch.allclose(head(dropout=0.0).train().average(outputs), whole)


def test_dropped_steps_leave_probabilities_and_have_no_gradient():
    torch.manual_seed(0)
    outputs = torch.randn(200, 5, 3, requires_grad=True)
    logits = head(dropout=0.6).train().average(outputs)
    assert torch.allclose(logits.exp().sum(1), torch.ones(200), atol=1e-5)
    logits[:, 0].sum().backward()
    dropped = (outputs.grad == 0).all(-1)
    assert outputs.grad.isfinite().all() and 0.4 < dropped.float().mean() < 0.6
    assert not dropped.all(1).any()
    for row in range(20):
        kept = outputs[row][~dropped[row]].softmax(-1).mean(0)
        assert torch.allclose(logits[row].exp(), kept, atol=1e-5)


def test_large_outputs_and_bf16_are_no_trouble():
    batch, san = batch_of(), head()
    san.classify.weight.data *= 1000
    states = states_of(batch).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = san(states, batch)
    assert inside.dtype == torch.float32 and inside.isfinite().all()
    assert torch.equal(inside, san(states.float(), batch))
    (-inside[:, 0].mean()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in san.parameters())


def encoder_of(kind: str):
    torch.manual_seed(0)
    if kind == "lstm":
        return BiAttentiveEncoder(torch.randn(60, 8), hidden=8, output=8)
    return TransformerEncoder(AutoModel.from_config(config_of("bert")), kind)


@pytest.mark.parametrize("kind", ["cls", "pooler", "mean", "lstm"])
def test_the_gradient_reaches_every_word_of_both_texts_and_all_weights(kind, monkeypatch):
    model = MultiTaskModel(encoder_of(kind), [tasks.get("mnli")], {"mnli": 0.0}, {"mnli": "san"})
    batch, read = batch_of(3), model.encoder.states
    states = read(batch)
    states.retain_grad()
    monkeypatch.setattr(model.encoder, "states", lambda batch: states)
    model(batch)[:, 0].sum().backward()
    assert torch.equal(states.grad.any(-1), torch.stack(sentence_masks(batch)).any(0))
    reached = {name for name, one in model.named_parameters() if one.grad is not None}
    assert {f"heads.mnli.{name}" for name, _ in model.heads["mnli"].named_parameters()} <= reached
    first = {"lstm": "encoder.embeddings.weight"}
    word_embeddings = "encoder.model.embeddings.word_embeddings.weight"
    assert model.get_parameter(first.get(kind, word_embeddings)).grad.any()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_has_states_for_it_and_padding_changes_nothing(family):
    torch.manual_seed(0)
    encoder = TransformerEncoder(AutoModel.from_config(config_of(family)))
    model = MultiTaskModel(encoder, [tasks.get("rte")], {"rte": 0.0}, {"rte": "san"}).eval()
    split = some_examples(tasks.get("rte"), 6)
    together = model(split.batch(np.arange(6)))
    alone = torch.cat([model(split.batch(np.array([row]))) for row in range(6)])
    assert torch.allclose(together, alone, atol=1e-5) and together.std(0).max() > 1e-4


def test_a_task_without_two_texts_and_one_label_is_refused():
    span = dataclasses.replace(tasks.get("rte"), kind="span")
    for task in (tasks.get("cola"), span):
        message = f"is for two texts with one label, which {task.title} has not: make it linear"
        with pytest.raises(UserError, match=message):
            new_head("san", task, encoder_of("cls"))


def test_the_other_heads_are_those_of_a_model_without_it():
    plain = small_model(("mnli", "rte"))
    torch.manual_seed(0)
    other = MultiTaskModel(plain.encoder, [tasks.get("rte")], {"rte": 0.0}, {"mnli": "san"})
    assert list(other.state_dict())[-2:] == ["heads.rte.weight", "heads.rte.bias"]
    assert plain.kinds == {"mnli": "linear", "rte": "linear"}


def test_it_is_trained_beside_a_linear_head(tmp_path):
    names, kinds = ("rte", "mnli"), {"rte": "san"}
    run = small_run(24, names, epochs=8)
    torch.manual_seed(0)
    encoder, known = small_model(names).encoder, list(map(tasks.get, names))
    model = MultiTaskModel(encoder, known, dict.fromkeys(names, 0.1), kinds)
    log = train(model, run, checkpoint=tmp_path / "checkpoint.pt")
    losses = [row["loss"] for row in log if row["task"] == "rte"]
    assert len(log) == 16 and losses[-1] < 0.7 * losses[0]
