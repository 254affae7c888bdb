"""The encoder and its heads against transformers' own model, and what a weight file must hold."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import examples, some_examples, tiny_bert
from torch.nn import functional as F
from transformers import AutoModel, BertForSequenceClassification

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel, load_encoder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


def model_of(
    bert, *names: str, pooling: str = "cls", dropout: float = 0.0, seed: int = 0, of=(), kinds=None
):
    torch.manual_seed(seed)
    of = of or [tasks.get(name) for name in names]
    encoder = load_encoder(bert, dropout=dropout, pooling=pooling)
    return MultiTaskModel(encoder, of, {task.name: dropout for task in of}, kinds)


def batch_of(name: str, count: int = 6):
    return some_examples(tasks.get(name), count).batch(np.arange(count))


def inputs(batch) -> dict:
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: getattr(batch, name) for name in names}


@pytest.mark.parametrize("name", ["rte", "mnli", "stsb"])
def test_loss_and_gradient_of_a_head_equal_those_of_transformers(bert, name):
    task, batch = tasks.get(name), batch_of(name)
    model = model_of(bert, name, pooling="pooler").train()
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = BertForSequenceClassification.from_pretrained(
        bert, num_labels=task.num_outputs, **dropout
    ).train()
    theirs.classifier.load_state_dict(model.heads[name].state_dict())
    logits = model(batch)
    if task.regression:
        loss = F.mse_loss(logits[:, 0], batch.labels)
    else:
        loss = F.cross_entropy(logits, batch.labels)
    expected = theirs(**inputs(batch), labels=batch.labels).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    grads = [
        bert.embeddings.word_embeddings.weight.grad for bert in (model.encoder.model, theirs.bert)
    ]
    assert grads[0].abs().max() > 1e-4
    assert torch.allclose(*grads, atol=1e-7)


@torch.no_grad()
def test_each_pooling_reads_its_vector(bert):
    batch = batch_of("rte")
    out = AutoModel.from_pretrained(bert).eval()(**inputs(batch))
    hidden, lengths = out.last_hidden_state, batch.attention_mask.sum(1)
    mean = torch.stack([row[:n].mean(0) for row, n in zip(hidden, lengths, strict=True)])
    expected = {"cls": hidden[:, 0], "pooler": out.pooler_output, "mean": mean}
    for pooling, vector in expected.items():
        encoder = load_encoder(bert, dropout=0.1, pooling=pooling).eval()
        assert torch.allclose(encoder(batch), vector, atol=1e-6)
    with pytest.raises(ValueError, match="unknown pooling 'max'"):
        load_encoder(bert, dropout=0.1, pooling="max")


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
def test_states_are_the_last_hidden_states_of_all_word_pieces(bert, pooling):
    batch = batch_of("rte")
    theirs = AutoModel.from_pretrained(bert).eval()
    encoder = load_encoder(bert, dropout=0.1, pooling=pooling).eval()
    before = encoder(batch)
    states, expected = encoder.states(batch), theirs(**inputs(batch)).last_hidden_state
    inside = batch.attention_mask.bool()
    assert states.shape == (*inside.shape, encoder.states_width)
    assert torch.allclose(states[inside], expected[inside], atol=1e-5)
    assert torch.equal(encoder(batch), before)  # the pooled path is as it was
    for tensor in (states, expected):
        tensor[inside][:, 0].pow(3).sum().backward()
    grads = [m.embeddings.word_embeddings.weight.grad for m in (encoder.model, theirs)]
    assert grads[0].abs().max() > 1e-3 and torch.allclose(*grads, atol=1e-4)


@torch.no_grad()
def test_logits_are_the_heads_linear_map_of_the_shared_vector(bert):
    model, batch = model_of(bert, "mnli", "stsb").eval(), batch_of("mnli")
    head = model.heads["mnli"]
    assert torch.allclose(model(batch), model.encoder(batch) @ head.weight.T + head.bias, atol=1e-6)
    assert model(batch_of("stsb")).shape == (6, 1)


@pytest.mark.parametrize("pooling", ["cls", "pooler", "mean"])
@torch.no_grad()
def test_padding_changes_nothing(bert, pooling):
    pieces = [[2, *range(10, 10 + length), 3] for length in (3, 6, 11, 24)]
    split = examples(tasks.get("mnli"), pieces, [0, 1, 2, 0], segment_start=[2, 4, 6, 8])
    model = model_of(bert, "mnli", pooling=pooling).eval()
    together = model(split.batch(np.arange(4)))
    alone = torch.cat([model(split.batch(np.array([row]))) for row in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-4  # else this would test nothing


def test_a_task_has_gradients_in_the_encoder_and_in_its_own_head(bert):
    model = model_of(bert, "cola", "mnli", "rte", dropout=0.1).train()
    model(batch_of("rte")).sum().backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    heads = {name for name in reached if name.startswith("heads.")}
    assert heads == {"heads.rte.weight", "heads.rte.bias"}
    assert "encoder.model.embeddings.word_embeddings.weight" in reached


@torch.no_grad()
def test_dropout_of_heads_is_per_task_and_dropout_of_the_encoder_is_of_both_kinds(bert):
    encoder = load_encoder(bert, dropout=0.0)
    of = [tasks.get("mnli"), tasks.get("rte")]
    model = MultiTaskModel(encoder, of, {"mnli": 0.5, "rte": 0.0}).train()
    assert torch.equal(model(batch_of("rte")), model(batch_of("rte")))
    assert not torch.equal(model(batch_of("mnli")), model(batch_of("mnli")))
    config = load_encoder(bert, dropout=0.23).model.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.23, 0.23)


@torch.no_grad()
def test_saved_and_loaded_gives_equal_logits(bert, tmp_path):
    model, other = (model_of(bert, "mnli", "stsb", seed=seed).eval() for seed in (0, 1))
    model.save(tmp_path / "model.safetensors")
    batch = batch_of("mnli")
    assert not torch.equal(model(batch), other(batch))
    other.load(tmp_path / "model.safetensors")
    assert torch.equal(model(batch), other(batch))


@torch.no_grad()
def test_a_san_is_saved_and_loaded_with_its_head_or_with_a_new_one(bert, tmp_path):
    san = {"kinds": {"mnli": "san"}}
    model, other = (model_of(bert, "mnli", "stsb", seed=seed, **san).eval() for seed in (0, 1))
    model.save(tmp_path / "model.safetensors")
    batch, new = batch_of("mnli"), other.heads["mnli"].classify.weight.clone()
    other.load(tmp_path / "model.safetensors", heads=False)
    assert torch.equal(other.heads["mnli"].classify.weight, new)
    assert not torch.equal(model(batch), other(batch))
    other.load(tmp_path / "model.safetensors")
    assert torch.equal(model(batch), other(batch))


@pytest.mark.parametrize(("saved", "needed"), [("linear", "san"), ("san", "linear")])
def test_a_head_of_another_kind_is_refused(bert, tmp_path, saved, needed):
    model_of(bert, "rte", kinds={"rte": saved}).save(tmp_path / "model.safetensors")
    message = f"another kind of head for 'rte' than this model's, {needed}: set model.heads as"
    with pytest.raises(UserError, match=message):
        model_of(bert, "rte", kinds={"rte": needed}).load(tmp_path / "model.safetensors")


def test_a_san_of_another_size_is_refused(bert, tmp_path):
    three, path = dataclasses.replace(tasks.get("rte"), labels=("a", "b", "c")), tmp_path / "model"
    san = {"kinds": {"rte": "san"}}
    model_of(bert, of=[three], **san).save(path)
    with pytest.raises(UserError, match="a head for 3 outputs for 'rte', this model needs one for"):
        model_of(bert, "rte", **san).load(path)
    model_of(tiny_bert(tmp_path / "other", hidden=16), "rte", **san).save(path)
    with pytest.raises(UserError, match="holds another encoder"):
        model_of(bert, "rte", **san).load(path)


@pytest.mark.parametrize("heads", [False, ["rte"]])
@torch.no_grad()
def test_the_encoder_is_loaded_with_the_heads_asked_for(bert, tmp_path, heads):
    first, second = model_of(bert, "mnli", "rte", seed=0), model_of(bert, "rte", "cola", seed=1)
    for parameter in first.parameters():
        parameter.add_(0.5)
    first.save(tmp_path / "model.safetensors")
    before = {name: head.weight.clone() for name, head in second.heads.items()}
    second.load(tmp_path / "model.safetensors", heads=heads)
    expected = first.heads["rte"].weight if heads else before["rte"]
    assert torch.equal(second.heads["rte"].weight, expected)
    assert torch.equal(second.heads["cola"].weight, before["cola"])
    for one, other in zip(first.encoder.parameters(), second.encoder.parameters(), strict=True):
        assert torch.equal(one, other)


def test_new_heads_follow_from_the_seed_and_start_without_bias(bert):
    one, same, other = (model_of(bert, "mnli", seed=seed).heads["mnli"] for seed in (3, 3, 4))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert not one.bias.any()


def test_a_head_for_another_number_of_classes_is_refused(bert, tmp_path):
    three = dataclasses.replace(tasks.get("rte"), labels=("a", "b", "c"))
    model_of(bert, of=[three]).save(tmp_path / "model.safetensors")
    message = r"model.safetensors has a head for 3 outputs for 'rte', this model needs one for 2"
    with pytest.raises(UserError, match=message):
        model_of(bert, "rte").load(tmp_path / "model.safetensors")


def test_a_missing_head_is_refused_and_nothing_is_changed(bert, tmp_path):
    model_of(bert, "mnli", seed=0).save(tmp_path / "model.safetensors")
    model = model_of(bert, "mnli", "rte", seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=r"has no head for 'rte'.*train the tasks together"):
        model.load(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("shape", [{"hidden": 16}, {"layers": 1}, {"layers": 3}])
def test_another_encoder_is_refused(bert, tmp_path, heads, shape):
    other = tiny_bert(tmp_path / "other", **shape)
    model_of(other, "rte").save(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"holds another encoder|has a head for") as error:
        model_of(bert, "rte").load(tmp_path / "model.safetensors", heads=heads)
    assert heads or "use the encoder that it was trained with" in str(error.value)


@pytest.mark.parametrize("kept", [None, 0, 7, 0.5, 0.999])
def test_a_missing_or_truncated_file_is_refused(bert, tmp_path, kept):
    path = tmp_path / "model.safetensors"
    model_of(bert, "rte").save(path)
    whole = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(UserError, match=r"not a readable model file .*run the stage that makes it"):
        model_of(bert, "rte").load(path)


@pytest.mark.parametrize("damage", ["no folder", "empty folder", "no weights", "truncated weights"])
def test_an_encoder_that_cannot_be_loaded_is_refused(bert, tmp_path, damage):
    folder = tmp_path / "encoder"
    if damage != "no folder":
        folder.mkdir()
    if "weights" in damage:
        (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
    if damage == "truncated weights":
        (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be loaded .*give a folder with config.json"):
        load_encoder(folder, dropout=0.1)
