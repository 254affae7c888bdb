"""Report what is installed, which data and encoders are available, and which studies can run."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import torch

from mtkd import __version__, paths, stages, tasks
from mtkd.config.study import Study, load
from mtkd.data.glue import glue_location
from mtkd.data.snli import snli_settings
from mtkd.errors import UserError
from mtkd.provenance import PACKAGES
from mtkd.stages.checkpoint import checkpoint_of, install_hint, is_cached, read_checkpoint

TIMEOUT = 3  # seconds for the hub to accept a connection
CONSTRAINTS = paths.SHARE / "constraints.txt"
VARIABLES = ("MTKD_GLUE", "MTKD_SNLI", "MTKD_PRETRAIN_TEXT")


def report_lines(names: list[str]) -> Iterator[str]:
    """Yield the report's lines; `names` are the studies to look at (all with a name if empty).

    Raises:
        UserError: One of the named studies cannot be loaded.
    """
    for name in names:
        load(name)
    yield f"packages: mtkd {__version__}, {'; '.join(_other_versions()) or 'all as tested'}"
    yield f"ONNX export: {'' if find_spec('onnxruntime') else 'not '}installed"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield f"processor: {os.cpu_count()} cores; memory: {memory:.1f} GiB"
    gpus = map(torch.cuda.get_device_name, range(torch.cuda.device_count()))
    yield f"GPU: {'; '.join(gpus) or 'none'}"
    work = paths.work_folder("").absolute()
    existing = next(path for path in (work, *work.parents) if path.exists())
    yield f"disk: {shutil.disk_usage(existing).free / 2**30:.1f} GiB free at {work}"
    encoders = sorted(name for name in os.environ if name.startswith("MTKD_ENCODER_"))
    for name in (*VARIABLES, *encoders):
        where, missing = os.environ.get(name), ""
        if where and not Path(where).expanduser().exists():
            may_be_id = name in encoders and where[0] not in "./~"
            missing = " (no folder here: a hub id)" if may_be_id else " (not on this machine)"
        yield f"{name}: {where or 'not set'}{missing}"
    reached = reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    switches = [key for key in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE") if os.environ.get(key)]
    off = f", but switched off by {', '.join(switches)}" if switches else ""
    yield f"hub: {'reachable' if reached else 'not reachable'}{off}"
    yield "studies:"
    for name in names or paths.studies():
        yield f"  {name}: {_verdict(name, online=reached and not switches)}"


def reachable(address: str) -> bool:
    """Tell whether a host accepts a connection within `TIMEOUT` seconds, name look-up included."""
    url = urlparse(address)
    connected = threading.Event()

    def connect() -> None:
        with suppress(OSError, ValueError):
            port = url.port or (80 if url.scheme == "http" else 443)
            socket.create_connection((url.hostname, port), timeout=TIMEOUT).close()
            connected.set()

    # A thread, because looking a name up has no timeout of its own.
    threading.Thread(target=connect, daemon=True).start()
    return connected.wait(TIMEOUT)


def _other_versions() -> Iterator[str]:
    """Yield the packages that figures depend on where the version is not the tested one."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines() if CONSTRAINTS.is_file() else []
    tested = dict(line.split("==") for line in lines if "==" in line)
    for name in PACKAGES:
        version = metadata.version(name).partition("+")[0]
        if version != tested.get(name, version):
            yield f"{name} {version} (tested: {tested[name]})"


def _verdict(name: str, online: bool) -> str:
    try:
        study = load(name)
        if missing := missing_requirements(study, online):
            raise UserError("; ".join(missing))
        runs = stages.all_runs(study)
        steps = sum(stages.steps(study, run) for run in runs)
    except UserError as error:
        return f"cannot run: {error}"
    return f"can run: {len(runs)} runs, {steps:,} updates"


def missing_requirements(study: Study, online: bool) -> list[str]:
    """Return what a study lacks on this machine, with the remedy; empty if it can run."""
    missing = []
    uses_glue = study.data.source == "glue" and bool(set(study.tasks) & set(tasks.GLUE))
    folder = Path(glue_location(study.data))
    if uses_glue and folder.is_dir():
        needed = [f"{name}/train-*.parquet" for name in study.trainable if name in tasks.GLUE]
        missing += [f"{folder} has no {files}" for files in needed if not any(folder.glob(files))]
    elif uses_glue and not online:
        missing.append("GLUE: set MTKD_GLUE, or connect to the hub")
    for field, where in snli_settings(study).items():
        if not online and not Path(where, tasks.SNLI.name).is_dir():
            missing.append(f"SNLI: set MTKD_SNLI, connect to the hub, or use --set {field}=null")
    found = [_missing_encoder(study, name, online, uses_glue) for name in study.encoders]
    return missing + [problem for problem in found if problem]


def _missing_encoder(study: Study, name: str, online: bool, uses_glue: bool) -> str | None:
    settings, checkpoint = study.encoders[name], checkpoint_of(study, name)
    variable, is_path = f"MTKD_ENCODER_{name.upper()}", Path(checkpoint or "").is_absolute()
    if checkpoint and Path(checkpoint).is_dir():
        try:
            read_checkpoint(study, name, checkpoint)
        except UserError as error:
            return str(error).removesuffix(".")
        return None
    if checkpoint and not is_path and (online or is_cached(checkpoint)):
        return None
    if settings.pretrain is None:
        nowhere = f"there is no folder {checkpoint}: " if is_path else ""
        hint = f"{nowhere}{install_hint(settings)}set {variable}"
        return f"encoder {name}: {hint}, or {'correct it' if is_path else 'connect to the hub'}"
    if uses_glue and not os.environ.get("MTKD_PRETRAIN_TEXT"):
        return f"encoder {name}: set {variable} or MTKD_PRETRAIN_TEXT"
    return None
