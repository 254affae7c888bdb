"""Every family of encoders through the stages of a study, then predicted with and exported."""

import numpy as np
import pytest
import torch
import yaml
from families import FAMILIES, POSITIONS, capabilities, make_checkpoint
from helpers import sentences

from mtkd import stages
from mtkd.config.study import load
from mtkd.inference.export import export
from mtkd.inference.load import load_model, trained_models
from mtkd.inference.predict import predict_logits
from mtkd.stages import report

pytestmark = pytest.mark.slow
TEXTS = sentences(60, longest=40)
PAIRS = [
    ("a cat sees the dog", "the old house"),
    ("the red bird", ""),
    ("word " * 90, "more " * 90),
]


def write_study(folder, family: str) -> None:
    """Write a study of two own tasks on a checkpoint beside it, with students of MKD."""
    make_checkpoint(family, folder / "checkpoint", TEXTS)
    pairs = zip(TEXTS[:30], TEXTS[30:], strict=True)
    lines = [f"{a},{b},{('no', 'yes')[row % 2]}" for row, (a, b) in enumerate(pairs)]
    (folder / "t.csv").write_text("\n".join(["a,b,label", *lines, ""]))
    task = {"train": "t.csv", "dev": 0.3, "labels": ["no", "yes"]}
    pair = task | {"type": "pair", "columns": ["a", "b"]}
    known, small = capabilities(family), {"train": {"epochs": 1}}
    students = {
        "lstm": {"kind": "lstm", "embeddings": "teacher", "embedding_dim": 8, "hidden": 8},
        "new": {"kind": "transformer", "init_from": "new", "layers": 1, "hidden": 16, "heads": 2},
    }
    if known["kept_layers"]:
        kept = {"init_from": "teacher", "kept_layers": [0, 2]}
        students["kept"] = {"kind": "transformer"} | kept
    layerwise = ["pkd", "minilm"] if known["minilm"] else ["pkd"] * known["kept_layers"]
    mkd = {"students": students, "layerwise": layerwise, "serving": {"examples": 8, "rounds": 1}}
    study = {
        "own_tasks": {"pairs": pair, "texts": task | {"type": "single", "columns": ["a"]}},
        "data": {"max_length": POSITIONS},
        "encoders": {"uncased": {"checkpoint": "./checkpoint"}},
        "candidates": {"dropouts": [0.1], "ensemble_size": 1},
        "mkd": mkd | small,
        **small,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def run_snippet(folder) -> np.ndarray:
    """Run the code of an export's card; return its logits."""
    scope: dict = {}
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace(f'"{folder.name}', f'"{folder}'), scope)
    return np.asarray(torch.as_tensor(scope["logits"]).detach())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_is_trained_predicted_with_and_exported(family, tmp_path, monkeypatch):
    for name in ("MTKD_ENCODER_UNCASED", "MTKD_GLUE"):
        monkeypatch.delenv(name, raising=False)
    write_study(tmp_path, family)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "artifacts"))
    study = load(tmp_path / "study.yaml")
    stages.load_all(study, [run for run in stages.all_runs(study) if run.stage != report.NAME])
    models = trained_models(study)
    formats = {"mt-dnn-kd-s0": ("transformers", "onnx"), "mkd-lstm-s0": ("onnx",), "mkd-new-s0": ()}
    if capabilities(family)["kept_layers"]:
        formats |= {"mkd-kept-s0": ("transformers",), "pkd-kept-s0": ()}
    if capabilities(family)["minilm"]:
        formats["minilm-kept-s0"] = ()
    for system, kinds in formats.items():
        trained = load_model(str(models[system]), "pairs")
        logits = predict_logits(trained, PAIRS)
        one_by_one = np.concatenate([predict_logits(trained, [pair]) for pair in PAIRS])
        assert np.abs(logits - one_by_one).max() < 1e-4, system
        assert np.ptp(logits, axis=0).min() > 1e-6, system
        for kind in kinds:
            out = tmp_path / f"{system}-{kind}"
            table = export(trained, out, kind).set_index("variant")
            assert table.gap[kind] < 1e-4
            expected = predict_logits(trained, [("a text", "another text")])
            assert np.allclose(run_snippet(out), expected, atol=1e-4), (system, kind)
