"""Dev predictions in one file: read back as they were, small, and comparisons of them alone."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mtkd import tasks
from mtkd.errors import UserError
from mtkd.report.predictions import FILE, SCHEMA, read_predictions, recompute, write_predictions
from mtkd.report.significance import Resampled, compare, rounded

RTE, STSB, AX = map(tasks.get, ("rte", "stsb", "ax"))
# Dev examples by task and split, and classes; QQP, QNLI and MNLI in full would be 65,540.
GLUE = {
    **{("mnli", split): 9_815 for split in tasks.get("mnli").dev},
    **{("qqp", "validation"): 8_000, ("qnli", "validation"): 5_463, ("stsb", "validation"): 1_500},
    **{("cola", "validation"): 1_043, ("sst2", "validation"): 872, ("mrpc", "validation"): 408},
}


def made(task: tasks.Task, split: str, size: int, random: np.random.Generator) -> pd.DataFrame:
    """Random rows of predictions.parquet as stages write it, in no order."""
    outputs = random.random((size, task.num_outputs), dtype=np.float32)
    labels = random.integers(0, task.num_outputs, size) if task.labels else outputs[:, 0] + 1
    columns = {"task": task.name, "split": split, "idx": random.permutation(size)}
    return pd.DataFrame(columns | {"label": labels, "outputs": list(outputs)})


@pytest.fixture
def parts():
    """Two systems with seeds, and an ensemble, on the same examples."""
    random, first = np.random.default_rng(0), np.random.default_rng(1)
    base = pd.concat([made(task, "validation", 60, first) for task in (RTE, STSB)])

    def run() -> pd.DataFrame:
        drawn = [random.random(len(one), dtype=np.float32) for one in base["outputs"]]
        test = made(RTE, "test", 5, random).assign(label=-1)
        return pd.concat([base.assign(outputs=drawn), test, made(AX, "test", 5, random)])

    runs = [(system, seed, run()) for system in ("mt-dnn", "mt-dnn-kd") for seed in (0.0, 1.0)]
    return [*runs, ("mt-dnn-ensemble", math.nan, run())]


@pytest.fixture
def labels(parts) -> pd.DataFrame:
    frame = parts[0][2]
    return frame[frame["split"] == "validation"][["task", "split", "idx", "label"]]


def test_they_are_read_back_without_labels_texts_and_probabilities(parts, labels, tmp_path):
    path, known = tmp_path / FILE, [RTE, STSB, AX]
    write_predictions(path, known, parts)
    assert pq.read_schema(path).equals(SCHEMA)
    assert "label" not in SCHEMA.names and "outputs" not in SCHEMA.names
    table = pd.read_parquet(path)
    assert set(table["split"]) == {"validation"} and set(table["task"]) == {"rte", "stsb"}
    assert (table["class"].isna() == (table["task"] == "stsb")).all()
    assert (table["score"].isna() == (table["task"] == "rte")).all()
    again = {(system, seed): frame for system, seed, frame in read_predictions(path, known, labels)}
    assert [system for system, _ in again] == [system for system, _, _ in parts]
    for (system, seed, before), after in zip(parts, again.values(), strict=True):
        assert (system, seed) in again or math.isnan(seed)
        for task in (RTE, STSB):
            frames = [
                frame[(frame["task"] == task.name) & (frame["split"] == "validation")].sort_values(
                    "idx"
                )
                for frame in (before, after)
            ]
            old, new = (np.stack(frame["outputs"]) for frame in frames)
            if task.regression:
                assert (old == new).all()
            else:
                assert (old.argmax(1) == new.argmax(1)).all() and (new.sum(1) == 1).all()
            assert (frames[0]["label"].to_numpy() == frames[1]["label"].to_numpy()).all()


def test_comparisons_are_recomputed_to_the_digit(parts, labels, tmp_path):
    pairs = [("mt-dnn-kd", "mt-dnn"), ("mt-dnn-ensemble", "mt-dnn")]
    known = [RTE, replace(STSB, metrics=("pearson", "spearman"))]
    expected = rounded(compare(Resampled(known, parts), pairs).frame)
    write_predictions(tmp_path / FILE, known, [("candidate/a", 0.0, parts[0][2]), *parts])
    expected.to_csv(tmp_path / "comparisons.csv", index=False)
    pd.testing.assert_frame_equal(recompute(tmp_path, known, labels), expected)
    swapped = labels.assign(label=labels["label"].to_numpy()[::-1])
    assert not recompute(tmp_path, known, labels.assign(label=1.0 - labels["label"])).equals(
        expected
    )
    with pytest.raises(UserError, match="examples without a label, such as rte/validation/"):
        recompute(tmp_path, known, swapped[swapped["task"] == "stsb"])


def test_nothing_predicted_is_an_empty_file(tmp_path):
    write_predictions(tmp_path / FILE, [RTE], [])
    assert pq.read_metadata(tmp_path / FILE).num_rows == 0


@pytest.mark.slow
def test_sixty_random_runs_of_glues_size_stay_below_a_megabyte(tmp_path):
    random, known = np.random.default_rng(0), [tasks.get(name) for name, _ in GLUE]

    def runs():
        for number in range(60):
            frames = [made(tasks.get(one[0]), one[1], size, random) for one, size in GLUE.items()]
            yield f"mt-dnn-kd:{number // 3}", number % 3, pd.concat(frames)

    write_predictions(tmp_path / FILE, known, runs())
    assert pq.read_metadata(tmp_path / FILE).num_rows == 60 * sum(GLUE.values())
    assert (tmp_path / FILE).stat().st_size < 1_000_000
