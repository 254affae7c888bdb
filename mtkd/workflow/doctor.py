"""What this machine has for a study: packages, hub, data, encoders, devices, disk; and which studies can run, for how long."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse

import torch
from packaging.requirements import Requirement
from tqdm import tqdm
from transformers import AutoConfig, BertConfig, BertModel

from mtkd import tasks
from mtkd.config import study as studies
from mtkd.config.study import Study
from mtkd.data import snli as transfer
from mtkd.data.dataset import Batch
from mtkd.data.glue import location
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.models.multitask import TransformerEncoder
from mtkd.paths import folder
from mtkd.stages.inputs import checkpoint_of
from mtkd.training.loop import optimizer_of
from mtkd.workflow import jobs as plan

WAIT = 3  # seconds for the hub to answer
SECONDS = 2  # of training steps that are measured for a shape
PIECES = 40  # word pieces of an example of GLUE, about
START = 8  # seconds that a notebook takes beside its steps, about


def lines(names: list[str] | None = None) -> Iterator[str]:
    """The report, a line at a time; `names` are the studies it is about (None: all of studies/)."""
    yield from _packages()
    online = reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    offline = {key for key in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(key)}
    yield f"hub: {'' if online else 'not '}reachable" + (
        f", but switched off by {', '.join(sorted(offline))}" if offline else ""
    )
    yield from _machine()
    yield from _places()
    yield "studies (times are estimates from a few seconds of training steps, for a machine that does nothing else):"
    rates: dict[tuple, float] = {}
    for name in names or sorted(path.stem for path in studies.studies_folder().glob("*.yaml")):
        try:
            found = studies.load(name)
            missing = wants(found, online and not offline)
            yield f"  {name}: " + (
                f"cannot run: {'; '.join(missing)}"
                if missing
                else f"can run, {_duration(found, rates)}"
            )
        except UserError as error:
            yield f"  {name}: cannot run: {error}"


def reachable(address: str) -> bool:
    """Whether the address takes a connection within `WAIT` seconds, name resolution included."""
    found = urlparse(address)
    answer = []

    def ask() -> None:
        try:
            with socket.create_connection(
                (found.hostname, found.port or (443 if found.scheme == "https" else 80)),
                timeout=WAIT,
            ):
                answer.append(True)
        except (OSError, ValueError, TypeError):
            pass

    thread = threading.Thread(
        target=ask, daemon=True
    )  # looking a name up has no timeout of its own
    thread.start()
    thread.join(WAIT)
    return bool(answer)


def _packages() -> Iterator[str]:
    wrong = []
    for text in metadata.requires("mtkd") or ():
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing (wanted: {wanted.specifier})")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} {version} is not {wanted.specifier}")
    wrong += _other_than_tested()
    yield f"packages: mtkd {metadata.version('mtkd')}, torch {torch.__version__}, " + (
        "; ".join(wrong) if wrong else "all as tested"
    )
    extra = [name for name in ("onnx", "onnxruntime") if not _installed(name)]
    yield f"ONNX export: {'pip install mtkd[onnx] (' + ', '.join(extra) + ' missing)' if extra else 'installed'}"


def _other_than_tested() -> list[str]:
    path = Path(__file__).resolve().parents[2] / "constraints.txt"
    pins = (
        [line.split("#")[0].strip().split("==") for line in path.read_text().splitlines()]
        if path.is_file()
        else []
    )
    own = {Requirement(text).name for text in metadata.requires("mtkd") or ()}
    found = [
        (pin[0], pin[1], metadata.version(pin[0]))
        for pin in pins
        if len(pin) == 2 and pin[0] in own and _installed(pin[0])
    ]
    return [
        f"{name} {version} (tested: {pin})"
        for name, pin, version in found
        if version.split("+")[0] != pin.split("+")[0]
    ]


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _machine() -> Iterator[str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    yield f"processor: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; memory: {memory:.1f} GiB"
    gpus = [
        f"{torch.cuda.get_device_name(place)}, {torch.cuda.get_device_properties(place).total_memory / 2**30:.0f} GiB"
        for place in range(torch.cuda.device_count())
    ]
    yield f"GPU: {'; '.join(gpus) or 'none'}"
    if not gpus:
        bf16, fp32 = (matrix_rate(kind) for kind in (torch.bfloat16, torch.float32))
        better = "fp32" if fp32 > bf16 else "bf16"
        yield (
            f"precision: bf16 products {bf16:.0f} GFLOP/s on one thread, fp32 {fp32:.0f}: train.precision={better} is the faster here "
            "(a study's figures depend on it)"
        )
    work = Path(os.environ.get("MTKD_WORK", studies.home() / "artifacts")).absolute()
    there = next(path for path in (work, *work.parents) if path.exists())
    yield f"disk: {shutil.disk_usage(there).free / 2**30:.1f} GiB free at {work}"


def matrix_rate(kind: torch.dtype) -> float:
    """GFLOP/s of a small BERT's largest product, on one thread of the processor: the best of some rounds."""
    threads, left, right = (
        torch.get_num_threads(),
        torch.randn(1280, 256, dtype=kind),
        torch.randn(1024, 256, dtype=kind),
    )
    torch.set_num_threads(1)
    rounds = []
    try:
        for _ in range(20):
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            rounds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 2 * 1280 * 256 * 1024 / min(rounds) / 1e9


def _places() -> Iterator[str]:
    glue, text = os.environ.get("MTKD_GLUE"), os.environ.get("MTKD_PRETRAIN_TEXT")
    if glue is None:
        yield "MTKD_GLUE: not set (GLUE comes from the hub)"
    elif not Path(glue).is_dir():
        yield f"MTKD_GLUE: {glue} is no directory: taken for a hub id"
    else:
        lacking = [
            f"{task.name}/{split}"
            for task in tasks.GLUE.values()
            for split in (task.train, *task.dev, *task.test)
            if split and not list(Path(glue, task.name).glob(f"{split}-*.parquet"))
        ]
        yield f"MTKD_GLUE: {glue}, " + (f"without {', '.join(lacking)}" if lacking else "complete")
    snli = os.environ.get("MTKD_SNLI")
    if snli is None:
        yield "MTKD_SNLI: not set (SNLI comes from the hub)"
    elif not Path(snli).is_dir():
        yield f"MTKD_SNLI: {snli} is no directory: taken for a hub id"
    else:
        there = list(Path(snli, tasks.SNLI.name).glob("train-*.parquet"))
        yield f"MTKD_SNLI: {snli}, {'complete' if there else 'without snli/train-*.parquet'}"
    yield (
        "MTKD_PRETRAIN_TEXT: not set"
        if text is None
        else f"MTKD_PRETRAIN_TEXT: {text}{'' if Path(text).is_file() else ' is no file'}"
    )
    for key in sorted(key for key in os.environ if key.startswith("MTKD_ENCODER_")):
        place = Path(os.environ[key])
        lacking = [
            name for name in ("config.json", "model.safetensors") if not (place / name).is_file()
        ]
        yield f"{key}: {place}" + (
            f" lacks {', '.join(lacking)}: taken for a hub id" if lacking else ""
        )


def wants(study: Study, online: bool) -> list[str]:
    """What a study lacks here; nothing where it can run."""
    missing = []
    if study.data.source == "glue":
        place = Path(location(study.data))
        if place.is_dir():
            missing += [
                f"{place} has no {name}/train-*.parquet"
                for name in study.trainable
                if name in tasks.GLUE and not list(place.glob(f"{name}/train-*.parquet"))
            ]
        elif not online and set(study.tasks) & set(tasks.GLUE):
            missing.append("GLUE: set MTKD_GLUE, or connect to the hub")
    places = transfer.wanted(study)
    if not online and not all(Path(place, tasks.SNLI.name).is_dir() for place in places.values()):
        missing.append(f"SNLI: set MTKD_SNLI, connect to the hub, or {transfer.without(places)}")
    for name, settings in study.encoders.items():
        checkpoint = checkpoint_of(name, settings)
        if checkpoint and (Path(checkpoint).is_dir() or online):
            continue
        if settings.pretrain is None:
            missing.append(
                f"encoder {name}: set MTKD_ENCODER_{name.upper()}, or connect to the hub"
            )
        elif (
            study.data.source == "glue"
            and set(study.tasks) & set(tasks.GLUE)
            and not os.environ.get("MTKD_PRETRAIN_TEXT")
        ):
            missing.append(f"encoder {name}: set MTKD_ENCODER_{name.upper()} or MTKD_PRETRAIN_TEXT")
    return missing


def _duration(study: Study, rates: dict[tuple, float]) -> str:
    """About how long the study's jobs take side by side; what is done already counts as well."""
    config = _shape(study)
    if config is None:
        return "its encoder's shape is not known before the hub is asked, so no estimate"
    pieces = min(PIECES, study.data.max_length)
    key = (
        config.hidden_size,
        config.num_hidden_layers,
        config.intermediate_size,
        config.vocab_size,
        study.train.batch_size,
        pieces,
        study.train.optimizer,
        study.train.precision,
        study.model.pooling,
    )
    if key not in rates:
        rates[key] = _rate(config, study, pieces)
    jobs = plan.jobs(study)
    cores = max(1, (os.cpu_count() or 1) // study.threads) if not torch.cuda.is_available() else 1
    seconds = (sum(job.steps for job in jobs) / rates[key] + START * len(jobs)) / min(cores, 2)
    done = " (some of it may be done)" if folder(study, "").is_dir() else ""
    return (
        f"about {_spell(seconds)} with two jobs side by side: {len(jobs)} jobs, {sum(job.steps for job in jobs):,} steps, "
        f"{rates[key]:.1f} steps/s measured{done}"
    )


def _spell(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _shape(study: Study) -> BertConfig | None:
    """The student's encoder's, from its directory or the hub's cache, or its recipe."""
    settings = study.encoders[study.student_encoder]
    checkpoint = checkpoint_of(study.student_encoder, settings)
    if checkpoint:
        try:
            return AutoConfig.from_pretrained(
                checkpoint, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError):
            pass
    recipe = settings.pretrain
    return recipe and BertConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.intermediate or 4 * recipe.hidden,
    )


def _rate(config: BertConfig, study: Study, pieces: int) -> float:
    """Training steps a second of such an encoder, random weights, on examples of that many word pieces.

    On a processor by its time, not the clock's: what else the machine does now does not count.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(study.threads)
    task = tasks.get("mrpc")
    bert = BertModel(config, add_pooling_layer=study.model.pooling == "pooler")
    model = (
        MultiTaskModel(TransformerEncoder(bert, study.model.pooling), [task], {task.name: 0.1})
        .to(device)
        .train()
    )
    optimizer = optimizer_of(model, study.train)
    ids = torch.randint(5, config.vocab_size, (study.train.batch_size, pieces))
    batch = Batch(
        task.name,
        ids,
        torch.ones_like(ids),
        torch.zeros_like(ids),
        torch.zeros(len(ids), dtype=torch.long),
    ).to(device)
    clock = (
        time.perf_counter if device.type == "cuda" else lambda: time.process_time() / study.threads
    )
    steps, started = -1, clock()
    with tqdm(desc="measuring", disable=None, leave=False) as shown:
        while steps < 1 or clock() - started < SECONDS:
            with torch.autocast(
                device.type, torch.bfloat16, enabled=study.train.precision == "bf16"
            ):
                loss = torch.nn.functional.cross_entropy(model(batch), batch.labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            steps += 1
            shown.update()
            if steps == 0:  # the first warms up
                started = clock()
    return steps / (clock() - started)
