"""The bi-attentive student: its attention against a loop, padding that changes nothing, and a reload that changes nothing."""

import numpy as np
import pytest
import torch

from mtkd import tasks
from mtkd.data.dataset import Batch
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.models.lstm import (
    BiAttentiveEncoder,
    BiLstm,
    bi_attention,
    own_table,
    projected_table,
    sentences,
    vectors_table,
)
from mtkd.training.cost import flops, parameters

PAD, CLS, SEP = 0, 1, 2


def batch_of(
    examples: list[tuple[list[int], ...]], task: str = "rte", extra: int = 0, pad: int = PAD
) -> Batch:
    """A batch of one or two sentences an example, padded to the longest and `extra` more."""
    rows = [
        [CLS, *parts[0], SEP, *([*parts[1], SEP] if len(parts) > 1 else [])] for parts in examples
    ]
    longest = max(map(len, rows)) + extra
    ids, mask, kinds = (torch.zeros(len(rows), longest, dtype=torch.int64) for _ in range(3))
    ids += pad
    for place, (row, parts) in enumerate(zip(rows, examples, strict=True)):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
        kinds[place, len(parts[0]) + 2 : len(row)] = 1
    return Batch(task, ids, mask, kinds, torch.zeros(len(rows), dtype=torch.int64))


def student(names=("rte", "sst2", "stsb"), seed: int = 0, layers: int = 1) -> MultiTaskModel:
    torch.manual_seed(seed)
    encoder = BiAttentiveEncoder(own_table(30, 6), hidden=5, layers=layers, output=7, dropout=0.3)
    model = MultiTaskModel(encoder, list(map(tasks.get, names)), dict.fromkeys(names, 0.1))
    for head in model.heads.values():
        torch.nn.init.normal_(head.weight)  # logits of order one
    return model


def random_examples(count: int, pair: bool, seed: int = 0) -> list:
    draw = np.random.default_rng(seed)
    return [
        tuple(draw.integers(3, 30, draw.integers(1, 9)).tolist() for _ in range(1 + pair))
        for _ in range(count)
    ]


def test_bi_attention_is_the_loop():
    torch.manual_seed(0)
    x, y = torch.randn(3, 4, 6), torch.randn(3, 5, 6)
    lengths = [(4, 5), (2, 1), (3, 4)]
    mask_x, mask_y = torch.zeros(3, 4, dtype=torch.bool), torch.zeros(3, 5, dtype=torch.bool)
    for row, (n, m) in enumerate(lengths):
        mask_x[row, :n], mask_y[row, :m] = True, True
    of_x, of_y = bi_attention(x, y, mask_x, mask_y)
    for row, (n, m) in enumerate(lengths):
        for i in range(n):
            weights = np.exp([float(x[row, i] @ y[row, j]) for j in range(m)])
            expected = sum(w / weights.sum() * y[row, j].numpy() for j, w in enumerate(weights))
            np.testing.assert_allclose(of_x[row, i], expected, rtol=1e-4, atol=1e-5)
        for j in range(m):
            weights = np.exp([float(x[row, i] @ y[row, j]) for i in range(n)])
            expected = sum(w / weights.sum() * x[row, i].numpy() for i, w in enumerate(weights))
            np.testing.assert_allclose(of_y[row, j], expected, rtol=1e-4, atol=1e-5)


def test_sentences_are_cut_from_the_segments():
    parts = sentences(batch_of([([5, 6, 7], [8, 9]), ([4], [3, 3, 3, 3])], extra=2))
    (first, lengths), (second, others) = parts
    assert lengths.tolist() == [3, 1] and others.tolist() == [2, 4]
    assert first[0].tolist() == [5, 6, 7] and first[1, 0] == 4
    assert second[0, :2].tolist() == [8, 9] and second[1].tolist() == [3] * 4
    assert len(sentences(batch_of([([5, 6],), ([7],)]))) == 1
    (first, lengths), (second, others) = sentences(
        batch_of([([], []), ([5], [6])])
    )  # an empty sentence is its [SEP]
    assert lengths.tolist() == [1, 1] and first[0, 0] == SEP and second[0, 0] == SEP


@pytest.mark.parametrize(("task", "pair"), [("rte", True), ("stsb", True), ("sst2", False)])
@pytest.mark.parametrize("layers", [1, 2])
def test_alone_or_in_a_padded_batch_the_logits_are_the_same(task, pair, layers):
    model = student(layers=layers).eval()
    examples = random_examples(12, pair)
    with torch.no_grad():
        together = model(batch_of(examples, task, extra=3))
        other_pad = model(batch_of(examples, task, extra=1, pad=29))
        alone = torch.cat([model(batch_of([example], task)) for example in examples])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, other_pad, atol=1e-6, rtol=0)
    assert together.std(0).max() > 1e-3  # a hundred times the tolerance


def test_pads_have_no_gradient():
    model = student()
    examples = random_examples(6, pair=True)
    model(
        batch_of(
            examples,
            extra=4,
            pad=29 if all(29 not in part for one in examples for part in one) else PAD,
        )
    ).sum().backward()
    gradient = model.encoder.embeddings.weight.grad
    used = {piece for one in examples for part in one for piece in part}
    assert all(gradient[piece].abs().sum() > 0 for piece in used)
    assert gradient[[piece for piece in range(30) if piece not in used]].abs().sum() == 0


def test_a_single_sentence_is_its_own_second():
    model = student().eval()
    examples = random_examples(5, pair=False)
    with torch.no_grad():
        once = model.encoder(batch_of(examples))
        twice = model.encoder(batch_of([(one[0], one[0]) for one in examples]))
    torch.testing.assert_close(once, twice, atol=1e-5, rtol=0)


def test_pooling_by_hand():
    model = student().encoder
    torch.nn.init.zeros_(model.attend.weight)  # equal weights: the attentive pooling is the mean
    values = torch.tensor([[[1.0] * 10, [3.0] * 10, [100.0] * 10]])
    pooled = model.pool(values, torch.tensor([[True, True, False]])).view(4, 10)
    assert pooled[:, 0].tolist() == pytest.approx([3, 1, 2, 2])


def test_bf16_autocast_does_not_reach_the_recurrence():
    model = student().eval()
    given = batch_of(random_examples(4, pair=True))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = model.encoder(given)
    with torch.no_grad():
        assert torch.equal(inside, model.encoder(given)) and inside.dtype == torch.float32


def test_export_and_reload_give_the_same_logits(tmp_path):
    model, other = student(seed=0).eval(), student(seed=1).eval()
    given = batch_of(random_examples(6, pair=True))
    model.save(tmp_path / "model.safetensors")
    with torch.no_grad():
        before = model(given)
        assert not torch.allclose(before, other(given))
        other.load(tmp_path / "model.safetensors")
        assert torch.equal(before, other(given))
    wider = MultiTaskModel(
        BiAttentiveEncoder(own_table(30, 6), hidden=6, output=7), [tasks.get("rte")], {"rte": 0.1}
    )
    with pytest.raises(UserError, match="another encoder"):
        wider.load(tmp_path / "model.safetensors", heads=False)


def test_flops_by_formula():
    assert BiLstm(3, 2).flops(10) == 10 * 2 * 2 * (4 * 2) * (
        3 + 2
    )  # pieces x directions x mul-add x gates x (in + h)
    assert BiLstm(3, 2, layers=2).flops(1) == 2 * 2 * 8 * (5 + 6)
    model = student(("sst2",)).eval()
    given = batch_of([([5, 6, 7],)], "sst2")
    n, d = 3, 10
    attention = 2 * (2 * n * n * d)  # A and its use
    reader, integrator = n * 2 * 2 * 20 * (6 + 5), n * 2 * 2 * 20 * (30 + 5)
    dense = 2 * n * d + 2 * 80 * 7 + 2 * 7 * 2  # pooling's scores, the shared layer, the head
    assert flops(model, [given]) == pytest.approx(reader + attention + integrator + dense)
    everything, tables = parameters(model)
    assert tables == 30 * 6 and everything == model.parameter_count()


def test_word_vectors(tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("the 1 2 3\nfilm 4 5 6\nunknown 7 8 9\n")
    torch.manual_seed(0)
    table = vectors_table(file, {"[PAD]": 0, "the": 1, "film": 2, "##s": 3})
    assert (
        table.shape == (4, 3) and table[1].tolist() == [1, 2, 3] and table[2].tolist() == [4, 5, 6]
    )
    for text, words in (
        ("the 1 2\nfilm 1\n", "line 2: 1 numbers"),
        ("the 1 x\n", "cannot be read"),
        ("so 1 2\n", "holds no word"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            vectors_table(file, {"the": 0, "film": 1})
    with pytest.raises(UserError, match="cannot be read"):
        vectors_table(tmp_path / "none.txt", {"the": 0})


def test_the_teachers_table_keeps_its_geometry():
    torch.manual_seed(0)
    low = torch.randn(40, 3) @ torch.randn(3, 8)  # of rank 3: three directions lose nothing
    found = projected_table(low, 3)
    assert found.shape == (40, 3) and float(found.std()) == pytest.approx(1, abs=1e-5)
    before, after = (torch.pdist(table - table.mean(0)) for table in (low, found))
    torch.testing.assert_close(before / before.mean(), after / after.mean(), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="projected up"):
        projected_table(low, 9)
