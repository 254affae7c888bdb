"""Inference cost: an ensemble pays for its members; operations by formula."""

import numpy as np
import pytest
import torch
from small_training import random_examples, small_model

from mtkd import tasks
from mtkd.training.cost import CostCase, flops, measure_costs, parameters


def test_an_ensemble_pays_for_all_its_members(tmp_path):
    names = ("rte", "sst2")
    bert, sets = small_model(names), [random_examples(tasks.get(name), 3) for name in names]
    batches = [split.batch(np.array([row])) for split in sets for row in range(3)]
    cases = [
        CostCase([bert], {1: [batches]}, {"bert": 2, "mt-dnn:mtl": 1}),
        CostCase([bert, bert], {1: [batches] * 2}, {"mt-dnn-ensemble": 2}),
    ]
    table = measure_costs(cases, 2, tmp_path, [torch.device("cpu")]).set_index("system")
    assert list(table.columns) == [
        *("measured", "models", "params", "params_without_embeddings", "bytes", "bytes_all"),
        *("flops", "device", "batch", "latency", "latency_low", "latency_high"),
        *("rate", "rate_low", "rate_high", "examples"),
    ]
    one, both, shared = table.loc["bert"], table.loc["mt-dnn-ensemble"], table.loc["mt-dnn:mtl"]
    for column in ("params", "params_without_embeddings", "bytes", "flops"):
        assert both[column] == pytest.approx(2 * one[column])
    assert (one.models, shared.models, both.models) == (2, 1, 4)
    assert one.bytes_all == 2 * one.bytes and one.examples == 6
    assert shared.params - one.params == 32 * 2 + 2
    assert (table.latency > 0).all() and (table.latency_low <= table.latency_high).all()
    assert not list(tmp_path.iterdir())


def test_operations_by_formula():
    bert, examples = small_model(["rte"]), random_examples(tasks.get("rte"), 3)
    attention = bert.encoder.model.config._attn_implementation
    h, m, lengths = 32, 64, examples.lengths.astype(float)
    # One layer: keys and values of all word pieces, the rest of [CLS] alone; then the head.
    layer = (2 * lengths * 2 * h * h + 4 * lengths * h).mean() + 2 * (2 * h * h + 2 * h * m)
    found = flops(bert, [examples.batch(np.array([row])) for row in range(3)])
    assert found == pytest.approx(layer + 2 * h * 2)
    assert bert.encoder.model.config._attn_implementation == attention
    total, tables = parameters(bert)
    assert total == bert.parameter_count() and tables == (120 + 512 + 2) * h
