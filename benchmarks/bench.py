"""Speed against what people would use instead, on the same work in one run: `make bench`.

Every contender is a process of its own that is started and warmed up once; in each round all do the same work in turn, and
the others wait. mtkd trains as a study does, a one-thread run a core side by side; the others get all cores as threads of
one process. Prints a table; writes bench.json, speed.png and speed.svg.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from contenders import SIDE, serve
from draw import speed
from work import BATCH, Work

from mtkd.report.style import save

HERE = Path(__file__).resolve().parent
FORK = multiprocessing.get_context("fork")  # one import for all
NAMES = {
    "train:mtkd": "mtkd, bf16, side by side",
    "train:mtkd:alone": "mtkd, bf16, one process",
    "train:trainer": "Trainer, default, fp32 (a)",
    "train:trainer-tuned": "Trainer, tuned, bf16 (b)",
    "train:authors-loop": "authors' loop, fp32 (c)",
    "score:mtkd": "mtkd, bf16, side by side",
    "score:trainer-tuned": "Trainer.predict, bf16",
    "score:pipeline": "pipeline loop, fp32",
    "predict:student": "mtkd student, fp32, one by one",
}
RATIOS = {
    "train_vs_trainer": ("train:mtkd", "train:trainer"),
    "train_vs_trainer_tuned": ("train:mtkd", "train:trainer-tuned"),
    "train_vs_authors_loop": ("train:mtkd", "train:authors-loop"),
    "score_vs_pipeline": ("score:mtkd", "score:pipeline"),
}


def by_shape(rounds: list[dict]) -> dict[str, dict[str, float]]:
    """Each shape's ratios: medians over the rounds of the rates' ratio within a round, so that a slow minute falls on both.

    `rounds` are rows with shape, turn, system, examples, seconds; mtkd's training has flops and rate besides (operations
    of the real word pieces, and the matrix products' operations a second of the same processes): `matrix_share`.
    """
    found: dict[str, dict[str, float]] = {}
    for shape in dict.fromkeys(row["shape"] for row in rounds):
        rows = {(row["system"], row["turn"]): row for row in rounds if row["shape"] == shape}
        turns = sorted({turn for _, turn in rows})
        own = found[shape] = {}
        for name, (system, other) in RATIOS.items():
            pairs = [
                (rows[system, turn], rows[other, turn])
                for turn in turns
                if (system, turn) in rows and (other, turn) in rows
            ]
            if pairs:
                own[name] = statistics.median(
                    one["examples"] / one["seconds"] * two["seconds"] / two["examples"]
                    for one, two in pairs
                )
        shares = [
            row["flops"] / row["seconds"] / row["rate"] for row in rows.values() if row.get("rate")
        ]
        if shares:
            own["matrix_share"] = statistics.median(shares)
    return found


def ratios(rounds: list[dict]) -> dict[str, float]:
    """The figures to be judged by: the least favourable of the shapes, but `matrix_share` that of the last (the largest) one."""
    found = by_shape(rounds)
    least = {name: min(own[name] for own in found.values() if name in own) for name in RATIOS}
    return least | {"matrix_share": found[rounds[-1]["shape"]]["matrix_share"]}


class Contender:
    """One process, or several of a kind side by side, that do a round when told."""

    def __init__(self, system: str, work: Work, options, log: str):
        self.system, self.log, self.lines, self.processes = system, log, [], []
        for _ in range(options.side if system in SIDE else 1):
            here, there = FORK.Pipe()
            self.processes.append(
                FORK.Process(target=serve, args=(there, system, work, options, log), daemon=True)
            )
            self.processes[-1].start()
            there.close()
            self.lines.append(here)

    def answers(self) -> list:
        try:
            return [line.recv() for line in self.lines]
        except EOFError:
            raise SystemExit(
                f"{self.system} ended before it answered: {Path(self.log).read_text(encoding='utf-8')[-2000:]}"
            ) from None

    def tell(self, message: object) -> list[dict]:
        for line in self.lines:
            line.send(message)
        return self.answers()

    def round(self, turn: int) -> dict:
        """Examples of all processes together, seconds of the slowest, memory together."""
        found = self.tell(turn)
        row = found[0] | {"seconds": max(answer["seconds"] for answer in found)}
        return row | {
            key: sum(answer[key] for answer in found)
            for key in ("examples", "memory", "flops", "updates")
            if key in found[0]
        }

    def end(self) -> None:
        for line, process in zip(self.lines, self.processes, strict=True):
            line.send(None)
            process.join()


def measure(work: Work, options, log: str) -> list[dict]:
    """All rounds of one shape."""
    preparing = FORK.Process(
        target=work.prepare
    )  # torch's threads must not start before the contenders are forked
    preparing.start()
    preparing.join()
    systems = [
        system
        for system in NAMES
        if work.shape in options.score_shapes or system.startswith("train")
    ]
    rows, contenders = [], []
    with contextlib.ExitStack() as stack:
        for system in systems:
            given = (
                work
                if system.startswith("train")
                else replace(work, updates=options.scored // BATCH)
            )
            contenders.append(Contender(system, given, options, log))
            stack.callback(contenders[-1].end)
        for contender in contenders:  # all import at once, and warm up in turn
            contender.answers()
        for contender in contenders:
            contender.tell(0)
            say(f"{work.shape}: {NAMES[contender.system]} is warm")
        for turn in range(1, options.rounds + 1):
            for contender in (
                contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]
            ):
                row = {
                    "shape": work.shape,
                    "turn": turn,
                    "system": contender.system,
                } | contender.round(turn)
                if contender.system == "train:mtkd":
                    rates = [answer["rate"] for answer in contender.tell("rate")]
                    # On one GPU the processes share the rate; on cores each has its own.
                    row["rate"] = sum(rates) if work.device == "cpu" else max(rates)
                rows.append(row)
            say(f"{work.shape}: round {turn} of {options.rounds}")
    return rows


def say(text: str) -> None:
    print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)


def table(rounds: list[dict]) -> str:
    """A Markdown row a shape and system: examples a second (median, least to greatest) and peak memory."""
    lines = [
        "| shape | system | examples/s | least – greatest | memory, MB |",
        "|---|---|---:|---:|---:|",
    ]
    for system, shape in (
        (system, shape)
        for system in NAMES
        for shape in dict.fromkeys(row["shape"] for row in rounds)
    ):
        rows = [row for row in rounds if (row["shape"], row["system"]) == (shape, system)]
        if not rows:
            continue
        cells = [(NAMES[system], [row["examples"] / row["seconds"] for row in rows])]
        if system.startswith("predict"):
            latency = statistics.median(row["latency_ms"] for row in rows)
            cells = [
                (f"{NAMES[system]} (median {latency:.1f} ms)", cells[0][1]),
                (
                    "mtkd student, fp32, 32 at a time",
                    [row["examples"] / row["batched_seconds"] for row in rows],
                ),
            ]
        memory = max(row["memory"] for row in rows)
        lines += [
            f"| {shape} | {name} | {statistics.median(rates):,.0f} | {min(rates):,.0f} – {max(rates):,.0f} | {memory:,.0f} |"
            for name, rates in cells
        ]
    return "\n".join(lines)


def machine() -> dict:
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if Path("/proc/cpuinfo").is_file()
        else []
    )
    about = {
        key: next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
        for key in ("model name", "flags")
    }
    return {
        "processor": about["model name"] or platform.machine(),
        "cores": os.cpu_count(),
        "bf16": "avx512_bf16" in about["flags"],
        "load_before": list(os.getloadavg()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--shapes", nargs="+", default=["mini", "small"], help="the last is the one of matrix_share"
    )
    parser.add_argument(
        "--score-shapes", nargs="+", default=["mini"], help="shapes with scoring and prediction too"
    )
    parser.add_argument(
        "--updates", nargs="+", type=int, default=[24, 12], help="of a round's training, a shape"
    )
    parser.add_argument(
        "--of", nargs="+", type=int, default=[8, 4], help="tasks of a round's training, a shape"
    )
    parser.add_argument("--scored", type=int, default=384, help="examples of a scoring round")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="of a contender that is alone"
    )
    parser.add_argument(
        "--side", type=int, default=os.cpu_count(), help="mtkd's processes side by side"
    )
    parser.add_argument("--side-threads", type=int, default=1, help="of each of them")
    parser.add_argument(
        "--workers", type=int, default=0, help="data-loading processes of the tuned Trainer"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile in the tuned Trainer")
    parser.add_argument(
        "--gpu", action="store_true", help="BERT-base on the GPU (not tried on one by this project)"
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "reports" / "bench")
    options = parser.parse_args()
    device = "cuda" if options.gpu else "cpu"
    if options.gpu:
        options.shapes, options.score_shapes, options.updates, options.of, options.scored = (
            ["base"],
            ["base"],
            [128],
            [8],
            4096,
        )
    about, rounds = machine(), []
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        log = str(Path(scratch, "log"))
        for shape, updates, of in zip(options.shapes, options.updates, options.of, strict=True):
            rounds += measure(Work(Path(scratch), shape, updates, of, device), options, log)
    say("")
    if options.gpu:  # asked only now: a process that has used the GPU cannot be forked
        about["gpu"] = torch.cuda.get_device_name()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    ).stdout.strip()
    versions = {
        name: version(name)
        for name in ("torch", "transformers", "accelerate", "tokenizers", "datasets")
    }
    settings = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key != "out"
    }
    found = {
        "ratios": ratios(rounds),
        "by_shape": by_shape(rounds),
        "machine": about,
        "versions": versions,
        "commit": commit,
        "settings": settings,
        "rounds": rounds,
    }
    (options.out / "bench.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    save(speed(rounds, NAMES), options.out / "speed")
    print(
        table(rounds),
        *(f"{name}: {value:.2f}" for name, value in found["ratios"].items()),
        f"written to {options.out}",
        sep="\n",
    )


if __name__ == "__main__":
    main()
