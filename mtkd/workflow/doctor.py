"""Report what is installed, which data and encoders are available, and which studies can run."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse

import torch
from packaging.requirements import Requirement

from mtkd import paths, stages, tasks
from mtkd.config.study import Study, load
from mtkd.data.glue import glue_location
from mtkd.data.snli import snli_settings
from mtkd.errors import UserError
from mtkd.stages.pretrain import checkpoint_of

TIMEOUT = 3  # seconds for the hub to accept a connection
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def report_lines(names: list[str] | None = None) -> Iterator[str]:
    """Yield the report's lines; `names` are the studies to look at (all of `studies/` if empty).

    Raises:
        UserError: One of the named studies cannot be loaded.
    """
    for name in names or ():
        load(name)
    yield from _packages()
    reached = reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    switches = [key for key in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE") if os.environ.get(key)]
    off = f", but switched off by {', '.join(switches)}" if switches else ""
    yield f"hub: {'reachable' if reached else 'not reachable'}{off}"
    yield from _machine()
    yield from _variables()
    yield "studies:"
    for name in names or sorted(path.stem for path in paths.studies_folder().glob("*.yaml")):
        yield f"  {name}: {_verdict(name, online=reached and not switches)}"


def reachable(address: str) -> bool:
    """Tell whether a host accepts a connection within `TIMEOUT` seconds, name look-up included."""
    url = urlparse(address)
    connected = threading.Event()

    def connect() -> None:
        with suppress(OSError, ValueError):
            port = url.port or (443 if url.scheme == "https" else 80)
            socket.create_connection((url.hostname, port), timeout=TIMEOUT).close()
            connected.set()

    if not url.hostname:
        return False
    # A thread, because looking a name up has no timeout of its own.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return connected.is_set()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines() if CONSTRAINTS.is_file() else []
    pins = dict(line.split("#")[0].strip().split("==") for line in lines if "==" in line)
    problems = []
    for package in map(Requirement, metadata.requires("mtkd") or ()):
        version, tested = _version(package.name), pins.get(package.name)
        if package.marker and not package.marker.evaluate({"extra": ""}):
            continue
        if version is None:
            problems.append(f"{package.name} is missing (required: {package.specifier})")
        elif not package.specifier.contains(version, prereleases=True):
            problems.append(f"{package.name} {version} is not {package.specifier}")
        elif tested and version.split("+")[0] != tested.split("+")[0]:
            problems.append(f"{package.name} {version} (tested: {tested})")
    about = "; ".join(problems) or "all as tested"
    yield f"packages: mtkd {_version('mtkd')}, torch {torch.__version__}, {about}"
    lacking = [name for name in ("onnx", "onnxruntime") if not _version(name)]
    remedy = f"not installed ({', '.join(lacking)}): pip install 'mtkd[onnx]'"
    yield f"ONNX export: {remedy if lacking else 'installed'}"


def _machine() -> Iterator[str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield f"processor: {os.cpu_count()} cores; memory: {memory:.1f} GiB"
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    names = [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus]
    yield f"GPU: {'; '.join(names) or 'none'}"
    work = paths.work_folder("").absolute()
    existing = next(path for path in (work, *work.parents) if path.exists())
    yield f"disk: {shutil.disk_usage(existing).free / 2**30:.1f} GiB free at {work}"


def _variables() -> Iterator[str]:
    """Yield what the variables that name data and encoders point to."""
    glue = [
        f"{task.name}/{split}"
        for task in tasks.GLUE.values()
        for split in (task.train, *task.dev, *task.test)
        if split
    ]
    for name, splits in {"MTKD_GLUE": glue, "MTKD_SNLI": ["snli/train"]}.items():
        yield f"{name}: {_data_set(os.environ.get(name), splits)}"
    text = os.environ.get("MTKD_PRETRAIN_TEXT")
    missing = "" if text is None or Path(text).is_file() else " is not a file"
    yield f"MTKD_PRETRAIN_TEXT: {text or 'not set'}{missing}"
    for name in sorted(name for name in os.environ if name.startswith("MTKD_ENCODER_")):
        files = ("config.json", "model.safetensors")
        lacking = [file for file in files if not Path(os.environ[name], file).is_file()]
        about = f" has no {' and no '.join(lacking)}: used as a hub id" if lacking else ""
        yield f"{name}: {os.environ[name]}{about}"


def _data_set(folder: str | None, splits: list[str]) -> str:
    if folder is None:
        return "not set (the data come from the hub)"
    if not Path(folder).is_dir():
        return f"{folder} is not a directory: used as a hub id"
    lacking = [split for split in splits if not list(Path(folder).glob(f"{split}-*.parquet"))]
    return f"{folder}, {'without ' + ', '.join(lacking) if lacking else 'complete'}"


def _verdict(name: str, online: bool) -> str:
    try:
        study = load(name)
        missing = missing_requirements(study, online)
        runs = [] if missing else stages.all_runs(study)
        steps = sum(stages.steps(study, run) for run in runs)
    except UserError as error:
        missing = [str(error)]
    if missing:
        return f"cannot run: {'; '.join(missing)}"
    rate = study.resources.steps_per_minute
    pace = f"{steps / rate:,.0f} minutes at {rate:g} a minute (resources.steps_per_minute)"
    return f"can run: {len(runs)} runs, {steps:,} updates; one after another {pace}"


def missing_requirements(study: Study, online: bool) -> list[str]:
    """Return what a study lacks on this machine, with the remedy; empty if it can run."""
    missing = []
    uses_glue = study.data.source == "glue" and bool(set(study.tasks) & set(tasks.GLUE))
    folder = Path(glue_location(study.data))
    if uses_glue and folder.is_dir():
        needed = [f"{name}/train" for name in study.trainable if name in tasks.GLUE]
        lacking = [split for split in needed if not list(folder.glob(f"{split}-*.parquet"))]
        missing += [f"{folder} has no {split}-*.parquet" for split in lacking]
    elif uses_glue and not online:
        missing.append("GLUE: set MTKD_GLUE, or connect to the hub")
    for field, where in snli_settings(study).items():
        if not online and not Path(where, tasks.SNLI.name).is_dir():
            missing.append(f"SNLI: set MTKD_SNLI, connect to the hub, or use --set {field}=null")
    for name, settings in study.encoders.items():
        checkpoint = checkpoint_of(name, settings)
        variable = f"MTKD_ENCODER_{name.upper()}"
        if checkpoint and (online or Path(checkpoint).is_dir()):
            continue
        if settings.pretrain is None:
            missing.append(f"encoder {name}: set {variable}, or connect to the hub")
        elif uses_glue and not os.environ.get("MTKD_PRETRAIN_TEXT"):
            missing.append(f"encoder {name}: set {variable} or MTKD_PRETRAIN_TEXT")
    return missing
