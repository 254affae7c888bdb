"""Train the runs of a study side by side, in processes that share one GPU.

A seed goes after another, so that whole seeds are there when the time is over. Members of ensembles
and tasks to fine-tune on are trained apart: no process is the last one for long.
"""

import multiprocessing
import os
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Unit:
    """A run of a study, or a part of one that can be trained beside the others.

    Attributes:
        run: Name of the run.
        part: Which of an ensemble's members, or the task to fine-tune on; None: all that is left.
        after: Names of the units that must be done before.
        updates: Of weights.
        level: Place of the first whole report that needs it.
    """

    run: str
    part: int | str | None
    after: tuple[str, ...]
    updates: int
    level: int = 0

    @property
    def name(self) -> str:
        return self.run if self.part is None else f"{self.run} {self.part}"


def units_of(study) -> list[Unit]:
    """Return all units of a study but its report, parents before children."""
    from mtkd import stages
    from mtkd.stages import finetune, report, teacher
    from mtkd.stages.common import count_updates

    units = []
    for run in stages.all_runs(study):
        if run.stage == report.NAME:
            continue
        above, parts = tuple(one.name for one in stages.parents(study, run)), {}
        if run.stage == teacher.NAME:
            updates = count_updates(study, [run.task], study.member_finetuning)
            parts = dict.fromkeys(range(teacher.ensemble_sizes(study)[-1]), updates)
        elif run.stage == finetune.NAME:
            tasks = study.trainable
            parts = {task: count_updates(study, [task], study.finetuning) for task in tasks}
        mine = [Unit(run.name, part, above, updates) for part, updates in parts.items()]
        rest = stages.steps(study, run) if not parts else 0
        units += [*mine, Unit(run.name, None, (*above, *(one.name for one in mine)), rest)]
    return units


def reports_of(study_file: str, overrides: list[str]) -> list[list[str]]:
    """Return the settings of the reports that are whole before the study is, smallest first.

    First the main systems with one seed, then with more, then all. A report is left out if its
    artifacts would be others than the study's.
    """
    from mtkd import stages
    from mtkd.config.study import load

    study, found = load(study_file, overrides), []
    main = [f"{name}=null" for name in ("ablation", "mkd", "adaptation") if getattr(study, name)]
    for count in range(1, len(study.seeds) + 1):
        changes = [*main, f"seeds={list(study.seeds[:count])}"]
        smaller = load(study_file, [*overrides, *changes])
        runs = [run for run in stages.all_runs(smaller) if run.stage < "11"]
        depends = [
            [stages.stages()[run.stage].depends(one, run) for run in runs]
            for one in (smaller, study)
        ]
        if depends[0] == depends[1]:
            found.append(changes)
    return [*found, []] if main or not found else [*found[:-1], []]


def plan(study_file: str, overrides: list[str]) -> tuple[list[Unit], list[list[str]]]:
    """Return the units in the order in which to start them, and the reports (`reports_of`).

    What an earlier report needs goes first, then what most updates wait for.
    """
    from mtkd.config.study import load

    reports, level = reports_of(study_file, overrides), {}
    for place, changes in enumerate(reports):
        for unit in units_of(load(study_file, [*overrides, *changes])):
            level.setdefault(unit.name, place)
    units = [replace(one, level=level[one.name]) for one in units_of(load(study_file, overrides))]
    below: dict[str, int] = {}
    for unit in reversed(units):
        longest = unit.updates + below.get(unit.name, 0)
        for name in unit.after:
            below[name] = max(below.get(name, 0), longest)
    order = sorted(units, key=lambda one: (one.level, -one.updates - below.get(one.name, 0)))
    return order, reports


def compute(study_file: str, overrides: list[str], unit: Unit) -> None:
    """Train a unit in this process, whose parents are there."""
    from mtkd import stages
    from mtkd.config.study import load
    from mtkd.stages import ensemble, finetune, mtdnn, teacher
    from mtkd.stages.inputs import Inputs

    os.environ["MTKD_LOG"] = os.devnull
    study = load(study_file, overrides)
    run = stages.find_run(study, unit.run)
    inputs = Inputs(study, run)
    if unit.part is None:
        stages.load(study, run)
    elif run.stage == finetune.NAME:
        finetune.finetune_task(inputs, unit.part)
    else:
        ranked, size = ensemble.rank_candidates(inputs), teacher.ensemble_sizes(study)[-1]
        one = ensemble.best_candidates(ranked, size)[unit.part]
        start = inputs[mtdnn.candidate_run(one)]
        ensemble.finetune_member(inputs, one.name, study.task(run.task), one, start)


@dataclass(frozen=True)
class Budget:
    """Processes, and seconds since `started` (of `time.perf_counter`).

    After `limit` no unit is started, and `grace` seconds later those are stopped that are still at
    work.
    """

    workers: int
    limit: float
    grace: float
    started: float

    def seconds(self) -> float:
        return time.perf_counter() - self.started


def run_units(
    units: list[Unit], study_file: str, overrides: list[str], budget: Budget
) -> list[dict]:
    """Train units in processes side by side, in this order where the graph allows it.

    Return a row per unit that was started: when it began and ended, in seconds, and its error or
    None. A unit that needs one that failed is not started.
    """
    left, done, log, running = list(units), set(), [], {}
    total, made = sum(unit.updates for unit in units), 0
    now, limit = budget.seconds, budget.limit
    pool = ProcessPoolExecutor(budget.workers, multiprocessing.get_context("spawn"))
    while True:
        for unit in [one for one in left if done.issuperset(one.after)]:
            if len(running) < budget.workers and now() < limit:
                left.remove(unit)
                work = pool.submit(compute, study_file, overrides, unit)
                running[work] = (unit, now())
        rest = limit + budget.grace - now()
        ended = running and wait(running, max(0, rest), FIRST_COMPLETED).done
        if not ended:
            break
        for work in ended:
            unit, begun = running.pop(work)
            error = work.exception()
            row = {"unit": unit.name, "updates": unit.updates, "began": round(begun, 1)}
            log.append(row | {"ended": round(now(), 1), "error": error and repr(error)})
            if error:
                print(f"{unit.name} failed: {error!r}", flush=True)
                continue
            done.add(unit.name)
            made += unit.updates
            rest = f", about {(total / made - 1) * now():.0f} s left" if made else ""
            print(
                f"{now():5.0f} s: {unit.name}; {len(done)} of {len(units)} runs, {made:,} of "
                f"{total:,} updates, {made / now():.1f} a second{rest}",
                flush=True,
            )
    for unit, begun in running.values():
        error = "stopped: the time was over"
        row = {"unit": unit.name, "updates": unit.updates, "began": round(begun, 1)}
        log.append(row | {"ended": round(now(), 1), "error": error})
    for process in multiprocessing.active_children() if running else ():
        process.terminate()
    pool.shutdown(wait=not running, cancel_futures=True)
    return log
