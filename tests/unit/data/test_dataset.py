"""Tokenized examples and batches equal the tokenizer's own."""

import datasets
import numpy as np
import pytest
import torch
from helpers import WORDS, examples, rows, tiny_bert
from transformers import AutoTokenizer, CanineTokenizer

from mtkd import tasks
from mtkd.data.dataset import TARGET, Examples, count_lengths, tokenize
from mtkd.data.glue import write_arrow
from mtkd.tasks import Task

RTE = tasks.get("rte")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_bert(tmp_path_factory.mktemp("dataset") / "bert"))


@pytest.mark.parametrize("max_length", [64, 12])
@pytest.mark.parametrize("name", list(tasks.GLUE))
def test_word_pieces_and_segments_equal_the_tokenizer_s(tokenizer, name, max_length):
    task = tasks.get(name)
    split = rows(task, 12)
    tokenized = tokenize(split, task, tokenizer, max_length)
    chosen = np.array([7, 0, 3, 11])
    batch = Examples(task, tokenized, "made", tokenizer.pad_token_id).batch(chosen)
    texts = [[split[column][int(row)] for row in chosen] for column in task.columns]
    limits = {"truncation": "longest_first", "max_length": max_length}
    expected = tokenizer(*texts, padding=True, return_tensors="pt", **limits)
    at_limit = (expected["attention_mask"].sum(1) == max_length).any()
    assert at_limit == (max_length == 12), "the limit must matter in one case alone"
    for key in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(getattr(batch, key), expected[key])
    assert bool(batch.token_type_ids.any()) == (len(task.columns) == 2)
    assert batch.task == name
    assert batch.labels.tolist() == [split["label"][int(row)] for row in chosen]
    assert batch.labels.dtype == (torch.float32 if task.regression else torch.int64)


def test_the_layout_is_cls_first_sep_second_sep(tokenizer):
    split = rows(RTE, 1, sentence1=["the dog"], sentence2=["a cat sees"])
    tokenized = tokenize(split, RTE, tokenizer, 64)
    texts = ("the dog", "a cat sees")
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert tokenized["input_ids"][0] == [cls, *first, sep, *second, sep]
    assert tokenized["segment_start"][0] == len(first) + 2


def test_texts_to_write_are_their_first_pieces_and_an_end(tokenizer):
    task = Task("write", "Write", "text", ("a",), (), ("rouge_l",), max_target=3)
    texts = ["the dog sees", "a cat", "", "the small old red house"]
    split = datasets.Dataset.from_dict(
        {"a": ["x", "y z", "w", "v"], "label": texts, "idx": range(4)}
    )
    examples = Examples(task, tokenize(split, task, tokenizer, 64), "made")
    sep = tokenizer.sep_token_id
    pieces = tokenizer(texts, add_special_tokens=False)["input_ids"]
    expected = [[*pieces[0][:3], sep], [*pieces[1][:3], sep], [], [*pieces[3][:3], sep]]
    assert examples.split["label"][:] == expected
    assert examples.split[TARGET][:] == texts
    assert examples.counts.tolist() == list(map(len, expected))
    assert examples.labels.tolist() == [one for ids in expected for one in ids]
    batch = examples.batch(np.array([3, 0]))
    assert batch.labels.tolist() == [*expected[3], *expected[0]]
    assert batch.words.tolist() == [[row, place] for row in (0, 1) for place in range(4)]
    assert batch.group_ids is None and batch.label_mask is None
    assert examples.labels[examples.units([3, 1])].tolist() == [*expected[3], *expected[1]]


@pytest.mark.parametrize("longer", RTE.columns)
def test_the_longer_text_loses_its_end(tokenizer, longer):
    (shorter,) = set(RTE.columns) - {longer}
    texts = {longer: " ".join(WORDS * 3), shorter: "a red bird"}
    pieces = {
        column: tokenizer(text, add_special_tokens=False)["input_ids"]
        for column, text in texts.items()
    }
    split = rows(RTE, 1, **{column: [text] for column, text in texts.items()})
    ids, sep = tokenize(split, RTE, tokenizer, 20)["input_ids"][0], tokenizer.sep_token_id
    pieces[longer] = pieces[longer][: 20 - 3 - len(pieces[shorter])]
    assert ids == [tokenizer.cls_token_id, *pieces["sentence1"], sep, *pieces["sentence2"], sep]


@pytest.mark.parametrize("fast", [True, False])
def test_lengths_are_those_before_the_cut(tokenizer, fast):
    tokenizer = tokenizer if fast else CanineTokenizer()  # a piece per character, and no fast form
    assert tokenizer.is_fast == fast
    split = rows(RTE, 3, sentence1=["a", "a a", "a a a a"], sentence2=["a", "a", "a a a"])
    tokens = tokenize(split, RTE, tokenizer, 9)
    lengths = [5, 6, 10] if fast else [5, 7, 15]
    assert tokens["length"][:] == lengths and max(map(len, tokens["input_ids"])) == 9
    mean = 7 if fast else 9
    assert count_lengths(tokens, 9) == {
        "examples": 3,
        "mean": mean,
        "longest": lengths[2],
        "cut": 33.33,
    }
    assert count_lengths(tokens, lengths[2])["cut"] == 0


def test_a_written_split_is_the_same_and_has_the_same_bytes_each_time(tokenizer, tmp_path):
    split = rows(RTE, 30)
    in_memory = tokenize(split, RTE, tokenizer, 64)
    for name in ("once", "again"):
        written = tokenize(split, RTE, tokenizer, 64, tmp_path / f"{name}.arrow")
        assert written.cache_files and written.to_dict() == in_memory.to_dict()
    assert (tmp_path / "once.arrow").read_bytes() == (tmp_path / "again.arrow").read_bytes()


def test_examples_of_a_memory_mapped_file_in_several_chunks(tokenizer, tmp_path):
    task = tasks.get("cola")
    parts = [
        tokenize(
            rows(task, size, seed=size, idx=range(100 * size, 101 * size)), task, tokenizer, 64
        )
        for size in (5, 9)
    ]
    whole = datasets.concatenate_datasets(parts)
    write_arrow(whole, tmp_path / "train.arrow")
    for split in (whole, datasets.Dataset.from_file(str(tmp_path / "train.arrow"))):
        loaded = Examples(task, split, "made")
        assert len(loaded) == loaded.epoch_size == 14
        assert loaded.lengths.tolist() == [len(pieces) for pieces in whole["input_ids"]]
        assert loaded.idx.tolist() == [*range(500, 505), *range(900, 909)]
        assert loaded.batch(np.array([13])).input_ids[0].tolist() == parts[1]["input_ids"][8]


def test_padding_has_the_tokenizer_s_own_piece():
    padded = examples(tasks.get("cola"), [[2, 7, 3], [2, 7, 8, 9, 3]], [0, 1], pad_id=99)
    batch = padded.batch(np.array([0, 1]))
    assert batch.input_ids.tolist() == [[2, 7, 3, 99, 99], [2, 7, 8, 9, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch.token_type_ids.tolist() == [[0] * 5] * 2


SOFT = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])


def test_soft_targets_and_groups_go_with_their_examples():
    plain = examples(RTE, [[2, 5, 3], [2, 6, 3], [2, 7, 3]], [0, 1, -1])
    soft = plain.replace(soft_targets=SOFT, group_ids=np.array([4, 4, 5]), epoch_size=2)
    assert plain.soft_targets is None and (plain.epoch_size, soft.epoch_size) == (3, 2)
    batch = soft.batch(np.array([2, 0]))
    assert torch.allclose(batch.soft_targets, torch.tensor([[0.3, 0.7], [0.1, 0.9]]))
    assert batch.soft_targets.dtype == torch.float32
    assert batch.group_ids.tolist() == [5, 4] and batch.label_mask.tolist() == [False, True]
    part = soft.subset(np.array([2, 0]))
    assert part.batch(np.array([0])).input_ids.tolist() == [[2, 7, 3]]
    assert (part.soft_targets.tolist(), part.epoch_size) == (SOFT[[2, 0]].tolist(), 2)
    assert (part.labels.tolist(), part.idx.tolist()) == ([-1, 0], [2, 0])
    both = part.concat(soft)
    assert both.soft_targets.tolist() == SOFT[[2, 0, 0, 1, 2]].tolist()
    assert (len(both), both.epoch_size, both.group_ids) == (5, 5, None)
    assert both.batch(np.array([0, 3])).input_ids.tolist() == [[2, 7, 3], [2, 6, 3]]


def test_examples_cannot_be_changed():
    with pytest.raises(AttributeError):
        examples(RTE, [[2, 3]], [0]).soft_targets = SOFT


def test_a_batch_moves_to_a_device_with_all_its_tensors():
    batch = examples(RTE, [[2, 5, 3]] * 3, [0, 1, 0]).replace(soft_targets=SOFT)
    moved = batch.batch(np.array([0, 1])).to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if torch.is_tensor(value)]
    assert len(tensors) == 5 and all(tensor.is_meta for tensor in tensors)
    assert moved.task == "rte" and moved.label_mask is None
