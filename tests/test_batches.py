"""Mini-batches of one task: what every plan of an epoch keeps, and word pieces equal to the tokenizer's own."""

from collections import Counter
from itertools import pairwise

import datasets
import numpy as np
import pytest
import torch
from helpers import WORDS, examples, rows, sentences, tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mtkd import tasks
from mtkd.data.dataset import Examples, tokenise
from mtkd.data.glue import write
from mtkd.data.sampler import by_length, plan_epoch

SIZES = st.dictionaries(
    st.sampled_from(list(tasks.GLUE)), st.integers(1, 120), min_size=1, max_size=5
)
SEEDS = st.integers(0, 2**31 - 1)
BATCHES, BUCKETS = st.integers(1, 40), st.integers(1, 60)
SAMPLING = st.sampled_from(["proportional", "sqrt", "temperature"])


def lengths_of(sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {task: random.integers(3, 61, size) for task, size in sizes.items()}


def shown(plan) -> dict[str, list[int]]:
    """Rows of each task in the order in which they are trained on."""
    found: dict[str, list[int]] = {}
    for task, batch in plan:
        found.setdefault(task, []).extend(batch.tolist())
    return found


def plain(plan) -> list:
    return [(task, batch.tolist()) for task, batch in plan]


@settings(max_examples=60, deadline=None)
@given(SIZES, BATCHES, BUCKETS, SEEDS, st.integers(0, 9))
def test_every_example_once_an_epoch_in_batches_of_one_task(sizes, batch_size, bucket, seed, epoch):
    plan = plan_epoch(
        lengths_of(sizes), batch_size=batch_size, seed=seed, epoch=epoch, bucket=bucket
    )
    assert {task: sorted(batch) for task, batch in shown(plan).items()} == {
        task: list(range(size)) for task, size in sizes.items()
    }
    for task, size in sizes.items():
        own = sorted((len(batch) for name, batch in plan if name == task), reverse=True)
        full, rest = divmod(size, batch_size)
        assert own == [batch_size] * full + [rest] * bool(rest)


@settings(max_examples=60, deadline=None)
@given(SIZES, BATCHES, BUCKETS, SEEDS, SAMPLING)
def test_no_batch_is_empty_or_too_large_and_no_example_is_favoured(
    sizes, batch_size, bucket, seed, sampling
):
    plan = plan_epoch(
        lengths_of(sizes),
        batch_size=batch_size,
        seed=seed,
        epoch=0,
        sampling=sampling,
        temperature=3,
        bucket=bucket,
    )
    assert {task for task, _ in plan} == set(sizes)
    for task, batch in plan:
        assert 1 <= len(batch) <= batch_size
        assert len(set(batch.tolist())) == len(batch)
        assert batch.min() >= 0
        assert batch.max() < sizes[task]
    for task, used in shown(plan).items():
        times = Counter(used)
        often = [times[row] for row in range(sizes[task])]
        assert max(often) - min(often) <= 1, "an example comes again before all the others came"


@settings(max_examples=40, deadline=None)
@given(SIZES, BATCHES, SEEDS, st.integers(0, 9), SAMPLING)
def test_seed_and_epoch_alone_make_the_plan(sizes, batch_size, seed, epoch, sampling):
    made = [
        plan_epoch(
            lengths_of(sizes), batch_size=batch_size, seed=seed, epoch=epoch, sampling=sampling
        )
        for _ in range(2)
    ]
    assert plain(made[0]) == plain(made[1])


@settings(max_examples=40, deadline=None)
@given(SIZES, BATCHES, SEEDS)
def test_sampling_keeps_the_number_of_batches_about(sizes, batch_size, seed):
    counts = [
        len(
            plan_epoch(
                lengths_of(sizes),
                batch_size=batch_size,
                seed=seed,
                epoch=0,
                sampling=sampling,
                temperature=3,
            )
        )
        for sampling in ("proportional", "sqrt", "temperature")
    ]
    assert max(abs(count - counts[0]) for count in counts) <= len(sizes)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_shuffles_batches_and_samples_anew(other):
    lengths = lengths_of({"rte": 800, "mnli": 1600})
    first, second = (
        plan_epoch(lengths, batch_size=8, bucket=10, **{"seed": 0, "epoch": 0} | changes)
        for changes in ({}, other)
    )
    assert [task for task, _ in first] != [task for task, _ in second]
    together = [
        {(task, *sorted(batch.tolist())) for task, batch in plan} for plan in (first, second)
    ]
    assert len(together[0] & together[1]) < 3, "the same examples stand together in both epochs"


def test_the_tasks_are_merged_and_not_one_after_the_other():
    order = [
        task
        for task, _ in plan_epoch(
            lengths_of({"rte": 300, "mnli": 300}), batch_size=8, seed=0, epoch=0
        )
    ]
    changes = sum(one != two for one, two in pairwise(order))
    assert changes > len(order) / 4


@pytest.mark.parametrize(
    ("sampling", "temperature", "expected"),
    [
        ("proportional", 2.0, {"mnli": 40, "rte": 10}),
        ("sqrt", 9.0, {"mnli": 33, "rte": 17}),  # sqrt(400) : sqrt(100) = 2 : 1 of 50
        ("temperature", 2.0, {"mnli": 33, "rte": 17}),
        ("temperature", 4.0, {"mnli": 29, "rte": 21}),  # 4.4721 : 3.1623 of 50 = 29.29 : 20.71
        ("temperature", 1.0, {"mnli": 40, "rte": 10}),
    ],
)
def test_shares_of_the_batches_by_hand(sampling, temperature, expected):
    plan = plan_epoch(
        lengths_of({"mnli": 400, "rte": 100}),
        batch_size=10,
        seed=0,
        epoch=0,
        sampling=sampling,
        temperature=temperature,
    )
    assert Counter(task for task, _ in plan) == expected


@pytest.mark.parametrize("seed", range(4))
def test_bucketed_batches_are_padded_far_less_than_random_ones(seed):
    lengths = lengths_of({"mnli": 1500, "rte": 300}, seed=seed)

    def padding(bucket: int) -> int:
        plan = plan_epoch(lengths, batch_size=16, seed=seed, epoch=0, bucket=bucket)
        return sum(
            int(lengths[task][batch].max() * len(batch) - lengths[task][batch].sum())
            for task, batch in plan
        )

    assert padding(50) < 0.25 * padding(1)


def test_batches_do_not_come_by_length():
    lengths = lengths_of({"mnli": 2000})["mnli"]
    means = [
        lengths[batch].mean()
        for _, batch in plan_epoch({"mnli": lengths}, batch_size=10, seed=0, epoch=0)
    ]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.25


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 1000), st.integers(1, 30))
def test_by_length_gives_every_row_once_within_the_bounds(lengths, pieces, most):
    lengths = np.array(lengths, dtype=np.int64)
    batches = list(by_length(lengths, pieces=pieces, most=most))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= pieces


def test_by_length_pads_little():
    lengths = lengths_of({"mnli": 1000})["mnli"]
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in by_length(lengths, pieces=512))
    assert padded < 1.1 * lengths.sum()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_bert(tmp_path_factory.mktemp("batches") / "bert"))


@pytest.mark.parametrize("max_length", [64, 12])
@pytest.mark.parametrize("name", list(tasks.GLUE))
def test_word_pieces_and_segments_equal_the_tokenizer_s(tokenizer, name, max_length):
    task = tasks.get(name)
    split = rows(task, 12)
    found = Examples(
        task, tokenise(split, task, tokenizer, max_length), "made", tokenizer.pad_token_id
    )
    chosen = np.array([7, 0, 3, 11])
    texts = [[split[column][int(row)] for row in chosen] for column in task.columns]
    expected = tokenizer(
        *texts, padding=True, truncation="longest_first", max_length=max_length, return_tensors="pt"
    )
    batch = found.batch(chosen)
    assert (expected["attention_mask"].sum(1) == max_length).any() == (max_length == 12), (
        "the limit must matter in one case alone"
    )
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    assert torch.equal(batch.token_type_ids, expected["token_type_ids"])
    assert bool(batch.token_type_ids.any()) == (len(task.columns) == 2)
    assert batch.task == name
    assert batch.labels.tolist() == [split["label"][int(row)] for row in chosen]
    assert batch.labels.dtype == (torch.float32 if task.regression else torch.int64)


def test_the_layout_is_cls_first_sep_second_sep(tokenizer):
    task = tasks.get("rte")
    found = tokenise(
        rows(task, 1, sentence1=["the dog"], sentence2=["a cat sees"]), task, tokenizer, 64
    )
    first, second = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the dog", "a cat sees")
    )
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert found["input_ids"][0] == [cls, *first, sep, *second, sep]
    assert found["segment_start"][0] == len(first) + 2


@pytest.mark.parametrize("longer", ["sentence1", "sentence2"])
def test_the_longer_text_loses_its_end(tokenizer, longer):
    task, shorter = tasks.get("rte"), {"sentence1": "sentence2", "sentence2": "sentence1"}[longer]
    texts = {longer: " ".join(WORDS * 3), shorter: "a red bird"}
    pieces = {
        column: tokenizer(text, add_special_tokens=False)["input_ids"]
        for column, text in texts.items()
    }
    found = tokenise(
        rows(task, 1, **{column: [text] for column, text in texts.items()}), task, tokenizer, 20
    )
    ids, sep = found["input_ids"][0], tokenizer.sep_token_id
    kept = {longer: pieces[longer][: 20 - 3 - len(pieces[shorter])], shorter: pieces[shorter]}
    assert ids == [tokenizer.cls_token_id, *kept["sentence1"], sep, *kept["sentence2"], sep]


def test_word_pieces_written_as_they_are_made_are_the_same(tokenizer, tmp_path):
    task = tasks.get("rte")
    split = rows(task, 30)
    kept = tokenise(split, task, tokenizer, 64)
    for name in ("once", "again"):
        written = tokenise(split, task, tokenizer, 64, tmp_path / f"{name}.arrow")
        assert written.cache_files and written.to_dict() == kept.to_dict()
    assert (tmp_path / "once.arrow").read_bytes() == (tmp_path / "again.arrow").read_bytes()


def test_examples_of_a_memory_mapped_file_in_several_pieces(tokenizer, tmp_path):
    task = tasks.get("cola")
    parts = [
        tokenise(
            rows(task, size, seed=size, idx=list(range(100 * size, 101 * size))),
            task,
            tokenizer,
            64,
        )
        for size in (5, 9)
    ]
    whole = datasets.concatenate_datasets(parts)
    write(whole, tmp_path / "train.arrow")
    for split in (whole, datasets.Dataset.from_file(str(tmp_path / "train.arrow"))):
        found = Examples(task, split, "made")
        assert len(found) == 14
        assert found.lengths.tolist() == [len(pieces) for pieces in whole["input_ids"]]
        assert found.idx.tolist() == [*range(500, 505), *range(900, 909)]
        assert found.batch(np.array([13])).input_ids[0].tolist() == parts[1]["input_ids"][8]


def test_padding_has_the_tokenizer_s_own_piece():
    found = examples(tasks.get("cola"), [[2, 7, 3], [2, 7, 8, 9, 3]], [0, 1], pad_id=99)
    batch = found.batch(np.array([0, 1]))
    assert batch.input_ids.tolist() == [[2, 7, 3, 99, 99], [2, 7, 8, 9, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch.token_type_ids.tolist() == [[0] * 5] * 2


def test_soft_targets_go_with_their_examples():
    soft = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    found = examples(tasks.get("rte"), [[2, 5, 3]] * 3, [0, 1, 0], soft_targets=soft)
    batch = found.batch(np.array([2, 0]))
    assert torch.allclose(batch.soft_targets, torch.tensor([[0.3, 0.7], [0.1, 0.9]]))
    assert batch.soft_targets.dtype == torch.float32
    assert examples(tasks.get("rte"), [[2, 5, 3]], [0]).batch(np.array([0])).soft is None


def test_a_batch_goes_to_a_device_with_all_its_tensors():
    found = examples(
        tasks.get("rte"), [[2, 5, 3]] * 2, [0, 1], soft_targets=np.full((2, 2), 0.5)
    ).batch(np.array([0, 1]))
    moved = found.to(torch.device("meta"))
    assert {
        value.device.type for value in vars(moved).values() if isinstance(value, torch.Tensor)
    } == {"meta"}
    assert moved.soft.is_meta and moved.task == "rte"


def test_made_up_texts_are_all_different():
    assert len(set(sentences(500))) == 500
