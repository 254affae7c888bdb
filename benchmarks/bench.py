"""Compare mtkd's speed on this machine with what one would use instead: `make bench`.

Every contender is started and warmed up once; in each round all do the same amount of training or
scoring a process, one after another. The main row is of one thread against one thread, at the shape
of the reference study's encoder. The row of more threads is apart: mtkd then runs as in a study,
as that many processes of one thread, and the others as one process of that many threads. Print a
table, and write bench.json and speed.png. Nothing else should run meanwhile.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import torch
from contenders import CONTENDERS
from workload import BATCH_SIZE, SHAPES, Workload

from mtkd import __version__, provenance
from mtkd.training.loop import seed_everything
from mtkd.training.precision import number_format

ROOT = Path(__file__).resolve().parent.parent
FORK = multiprocessing.get_context("fork")  # all libraries are imported once
LABELS = {
    "train:mtkd": "mtkd",
    "train:trainer": "Trainer, defaults, fp32",
    "train:trainer-tuned": "Trainer, tuned",
    "train:plain-loop": "plain loop, fp32",
    "score:mtkd": "mtkd",
    "score:pipeline": "pipeline, fp32",
}


def ratios(rounds: pd.DataFrame) -> pd.DataFrame:
    """Return how many times as fast mtkd is: a row per shape, a column per other contender.

    Args:
        rounds: a row per shape, round and system, with the rate in examples per second.

    Returns:
        Medians over the rounds of the ratio within a round, so that a slow minute counts for both.
    """
    rates = rounds.pivot_table(index=["shape", "round"], columns="system", values="rate")
    others = [name for name in rates if not name.endswith(":mtkd")]
    mtkd = {name: rates[f"{name.split(':')[0]}:mtkd"] for name in others}
    return (
        pd.DataFrame({name: mtkd[name] / rates[name] for name in others}).groupby("shape").median()
    )


class Contender:
    """The processes of one system, which run a round on demand."""

    def __init__(self, system: str, load: Workload, threads: int):
        count = threads if system.endswith(":mtkd") else 1
        examples = load.scored if system.startswith("score") else BATCH_SIZE * load.updates
        self.system, self.examples, self.connections = system, count * examples, []
        for _ in range(count):
            here, there = FORK.Pipe()
            arguments = (there, system, load, threads // count)
            FORK.Process(target=_serve, args=arguments, daemon=True).start()
            there.close()
            self.connections.append(here)

    def rate(self, turn: int) -> float:
        """Run a round; return the examples per second of all processes together."""
        try:
            for connection in self.connections:
                connection.send(turn)
            return self.examples / max(connection.recv() for connection in self.connections)
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"{self.system} ended without a result: see the error above") from None

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def _serve(connection: Connection, system: str, load: Workload, threads: int) -> None:
    torch.set_num_threads(threads)
    os.environ["MTKD_LOG"] = os.devnull
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Trainer prints its logs
    seed_everything(0)
    one_round = CONTENDERS[system](load)
    while True:
        try:
            turn = connection.recv()
        except EOFError:
            return
        connection.send(one_round(turn))


def row_name(shape: str, threads: int, gpu: bool) -> str:
    """Return what a row of the table compares."""
    if gpu:
        return f"{shape}, GPU, {threads} processes" if threads > 1 else f"{shape}, GPU"
    return f"{shape}, {threads} processes" if threads > 1 else f"{shape}, 1 thread"


def measure(load: Workload, systems: list[str], rounds: int, threads: int, row: str) -> list[dict]:
    """Return a row per round and system; round 0 warms up and is not counted."""
    # In a process of its own: torch must not start threads before the contenders are forked.
    writer = FORK.Process(target=load.write_encoder)
    writer.start()
    writer.join()
    rows = []
    with ExitStack() as stack:
        contenders = [Contender(system, load, threads) for system in systems]
        for contender in contenders:
            stack.callback(contender.close)
        for turn in range(rounds + 1):
            for contender in contenders:
                about = {"shape": row, "round": turn, "system": contender.system}
                rows.append(about | {"rate": contender.rate(turn)})
            print(f"{row}: round {turn} of {rounds}", file=sys.stderr)
    return [row for row in rows if row["round"]]


def draw(rounds: pd.DataFrame, path: Path) -> None:
    """Draw the median rates with their range, a panel per shape and kind."""
    import seaborn

    about = rounds["system"].str.split(":", expand=True)[0]
    frame = rounds.assign(panel=rounds["shape"] + ", " + about, label=rounds["system"].map(LABELS))
    grid = seaborn.catplot(
        frame,
        kind="bar",
        x="rate",
        y="label",
        col="panel",
        col_wrap=2,
        sharex=False,
        sharey=False,
        estimator="median",
        errorbar=("pi", 100),
        height=2.4,
        aspect=2.2,
    )
    grid.set_axis_labels("examples per second", "").set_titles("{col_name}")
    grid.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    main_rows = ["train:mtkd", "train:trainer-tuned"]
    parser.add_argument("--shapes", nargs="+", default=["minilm"], choices=SHAPES, metavar="SHAPE")
    parser.add_argument(
        "--systems", nargs="+", default=main_rows, choices=["all", *CONTENDERS], metavar="SYSTEM"
    )
    parser.add_argument("--updates", type=int, default=16, help="of a round's training")
    parser.add_argument("--tasks", type=int, default=4, help="of a round's training")
    parser.add_argument("--scored", type=int, default=384, help="examples of a round's scoring")
    parser.add_argument("--rounds", type=int, default=5)
    cores = sorted({1, os.cpu_count()})
    parser.add_argument("--threads", nargs="+", type=int, default=cores, help="a row for each")
    parser.add_argument("--gpu", action="store_true", help="compute on the GPU, not the processor")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "bench")
    options = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if options.gpu and not torch.cuda.device_count():
        raise SystemExit("There is no CUDA GPU here: leave out --gpu.")
    if not options.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    systems = list(CONTENDERS) if "all" in options.systems else options.systems
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for shape in options.shapes:
            load = Workload(Path(scratch), shape, options.updates, options.tasks, options.scored)
            for threads in options.threads:
                row = row_name(shape, threads, options.gpu)
                rows += measure(load, systems, options.rounds, threads, row)
    rounds = pd.DataFrame(rows)
    times = ratios(rounds)
    versions = {name: version(name) for name in ("torch", "transformers")} | {"mtkd": __version__}
    half = str(number_format("cuda" if options.gpu else "cpu"))
    machine = {"processor": provenance.machine(), "bf16": half.removeprefix("torch.")}
    if options.gpu:
        machine["gpu"] = torch.cuda.get_device_name()
    results = {"machine": machine, "versions": versions, "ratios": times.to_dict("index")}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results | {"rounds": rows}, indent=1) + "\n"
    (options.out / "bench.json").write_text(text, encoding="utf-8")
    draw(rounds, options.out / "speed.png")
    medians = rounds.groupby(["shape", "system"])["rate"].agg(["median", "min", "max"])
    print(medians.round(0).to_string(), times.round(2).to_string(), options.out, sep="\n\n")


if __name__ == "__main__":
    main()
