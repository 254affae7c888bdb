"""The shared encoder and its heads against transformers' own model, and what a file of weights must hold to be taken."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers import examples, some_examples, tiny_bert
from transformers import AutoModel, BertForSequenceClassification

from mtkd import tasks
from mtkd.config.distillation import Distil
from mtkd.config.training import Model, Train
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.training.loop import optimizer_of, seed_everything, step_on
from mtkd.training.losses import hard_loss

REPRESENTATIONS = get_args(Model.model_fields["pooling"].annotation)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


def model_of(
    bert, *names: str, pooling: str = "cls", dropout: float = 0.0, seed: int = 0, of=None
) -> MultiTaskModel:
    seed_everything(seed)
    of = of or [tasks.get(name) for name in names]
    encoder = load_encoder(bert, dropout=dropout, pooling=pooling)
    return MultiTaskModel(encoder, of, {task.name: dropout for task in of})


def batch_of(name: str, count: int = 6, seed: int = 0):
    return some_examples(tasks.get(name), count, seed=seed).batch(np.arange(count))


@pytest.mark.parametrize("name", ["rte", "mnli", "stsb"])
def test_a_head_s_loss_and_gradient_equal_transformers_own(bert, name):
    task, batch = tasks.get(name), batch_of(name)
    model = model_of(bert, name, pooling="pooler")
    theirs = BertForSequenceClassification.from_pretrained(
        bert, num_labels=task.num_outputs, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).train()
    theirs.classifier.load_state_dict(model.heads[name].state_dict())
    loss = hard_loss(task, model.train()(batch), batch.labels)
    expected = theirs(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        labels=batch.labels,
    ).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    own, other = (
        model.encoder.model.embeddings.word_embeddings.weight.grad,
        theirs.bert.embeddings.word_embeddings.weight.grad,
    )
    assert other.abs().max() > 1e-4
    assert torch.allclose(own, other, atol=1e-7)


def test_cls_is_the_first_vector_as_it_is_and_pooled_is_after_the_pooler(bert):
    batch = batch_of("rte")
    plain = AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        out = plain(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
        )
        raw = load_encoder(bert, dropout=0.1, pooling="cls").eval()(batch)
        pooled = load_encoder(bert, dropout=0.1, pooling="pooler").eval()(batch)
    assert torch.allclose(raw, out.last_hidden_state[:, 0], atol=1e-6)
    assert torch.allclose(pooled, out.pooler_output, atol=1e-6)
    assert not torch.allclose(raw, pooled, atol=1e-2)


def test_logits_are_the_head_s_linear_map_of_the_shared_vector(bert):
    model, batch = model_of(bert, "mnli", "stsb").eval(), batch_of("mnli")
    with torch.no_grad():
        head = model.heads["mnli"]
        assert torch.allclose(
            model(batch), model.encoder(batch) @ head.weight.T + head.bias, atol=1e-6
        )
        assert model(batch_of("stsb")).shape == (6, 1)


@pytest.mark.parametrize("pooling", REPRESENTATIONS)
def test_padding_changes_nothing(bert, pooling):
    task = tasks.get("mnli")
    lengths = (3, 6, 11, 24)
    pieces = [[2, *range(10, 10 + length), 3] for length in lengths]
    found = examples(task, pieces, [0, 1, 2, 0], second=[2, 4, 6, 8])
    model = model_of(bert, "mnli", pooling=pooling).eval()
    with torch.no_grad():
        together = model(found.batch(np.arange(4)))
        alone = torch.cat([model(found.batch(np.array([row]))) for row in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-4, (
        "the logits must differ between examples for this test to mean anything"
    )


@pytest.mark.parametrize("optimizer", ["adamax", "adamw"])
def test_a_step_on_one_task_leaves_every_other_head_as_it_was(bert, optimizer):
    settings = Train(optimizer=optimizer, learning_rate=1e-2, precision="fp32", weight_decay=0.1)
    model = model_of(bert, "cola", "mnli", "rte", "stsb", dropout=0.1)
    steps = optimizer_of(model, settings)
    accelerator = Accelerator(cpu=True)

    def step(name: str):
        step_on(model, batch_of(name), tasks.get(name), steps, accelerator, settings, Distil())

    for name in (
        "cola",
        "mnli",
        "rte",
        "stsb",
    ):  # so that the optimizer holds a momentum for every head
        step(name)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step("rte")
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert {name for name in changed if name.startswith("heads.")} == {
        "heads.rte.weight",
        "heads.rte.bias",
    }
    assert any(name.startswith("encoder.model.encoder.layer.0.") for name in changed)
    assert any(name.startswith("encoder.model.embeddings.") for name in changed)


def test_each_task_has_its_own_dropout_before_its_head(bert):
    seed_everything(0)
    of = [tasks.get("mnli"), tasks.get("rte")]
    model = MultiTaskModel(load_encoder(bert, dropout=0.0), of, {"mnli": 0.5, "rte": 0.0}).train()
    with torch.no_grad():
        assert torch.equal(model(batch_of("rte")), model(batch_of("rte")))
        assert not torch.equal(model(batch_of("mnli")), model(batch_of("mnli")))


def test_the_encoder_s_dropout_is_that_of_hidden_layers_and_attention(bert):
    config = load_encoder(bert, dropout=0.23).model.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.23, 0.23)


def test_saved_and_loaded_gives_equal_logits(bert, tmp_path):
    model, other = model_of(bert, "mnli", "stsb", seed=0), model_of(bert, "mnli", "stsb", seed=1)
    model.save(tmp_path / "model.safetensors")
    batch = batch_of("mnli")
    with torch.no_grad():
        assert not torch.equal(model.eval()(batch), other.eval()(batch))
        other.load(tmp_path / "model.safetensors")
        assert torch.equal(model(batch), other(batch))


def test_without_heads_the_new_heads_stay_and_the_encoder_is_taken(bert, tmp_path):
    first = model_of(bert, "mnli", "rte", seed=0)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.5)
    first.save(tmp_path / "model.safetensors")
    second = model_of(bert, "rte", seed=1)
    head = second.heads["rte"].weight.clone()
    second.load(tmp_path / "model.safetensors", heads=False)
    assert torch.equal(second.heads["rte"].weight, head)
    assert all(
        torch.equal(own, other)
        for own, other in zip(first.encoder.parameters(), second.encoder.parameters(), strict=True)
    )


def test_new_heads_follow_from_the_seed_and_start_without_bias(bert):
    one, same, other = (model_of(bert, "mnli", seed=seed).heads["mnli"] for seed in (3, 3, 4))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert not one.bias.any()


def test_a_head_for_another_number_of_classes_is_refused(bert, tmp_path):
    rte = tasks.get("rte")
    three = dataclasses.replace(rte, labels=("entailment", "neutral", "contradiction"))
    model_of(bert, of=[three]).save(tmp_path / "model.safetensors")
    with pytest.raises(
        UserError, match=r"has a head for 3 outputs for 'rte', this model needs one for 2"
    ) as error:
        model_of(bert, "rte").load(tmp_path / "model.safetensors")
    assert str(tmp_path) in str(error.value)


def test_a_missing_head_is_refused_and_nothing_is_changed(bert, tmp_path):
    model_of(bert, "mnli", seed=0).save(tmp_path / "model.safetensors")
    model = model_of(bert, "mnli", "rte", seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=r"has no head for 'rte'.*start from the encoder alone"):
        model.load(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("shape", [{"hidden": 16}, {"layers": 1}])
def test_another_encoder_is_refused(bert, tmp_path, heads, shape):
    other = tiny_bert(tmp_path / "other", **shape)
    model_of(other, "rte").save(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"holds another encoder|has a head for") as error:
        model_of(bert, "rte").load(tmp_path / "model.safetensors", heads=heads)
    assert heads or "use the encoder that it was trained with" in str(error.value)


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.999])
def test_a_truncated_file_is_refused(bert, tmp_path, keep):
    path = tmp_path / "model.safetensors"
    model_of(bert, "rte").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(
        UserError,
        match=r"model.safetensors is not a readable model file .*run the stage that makes it again",
    ):
        model_of(bert, "rte").load(path)


def test_a_file_that_is_not_there_is_refused(bert, tmp_path):
    with pytest.raises(UserError, match="is not a readable model file"):
        model_of(bert, "rte").load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("damage", ["empty folder", "no weights", "truncated weights", "no folder"])
def test_an_encoder_that_cannot_be_loaded_is_refused(bert, tmp_path, damage):
    folder = tmp_path / "encoder"
    if damage != "no folder":
        folder.mkdir()
    if "weights" in damage:
        (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
    if damage == "truncated weights":
        (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(
        UserError,
        match=r"cannot be loaded .*give a folder with config.json, model.safetensors and tokenizer.json",
    ):
        load_encoder(folder, dropout=0.1)
