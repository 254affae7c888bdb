"""07_report: what all stages of a study found, in one tidy table and a page."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from mtkd import paths as work
from mtkd.artifacts import Artifact, provenance
from mtkd.config.study import Study
from mtkd.report import significance as comparisons
from mtkd.report.html import write_report
from mtkd.report.sections import ablation as ablation_report
from mtkd.report.sections import mkd as mkd_report
from mtkd.stages import ablation, adaptation, mkd, ranking
from mtkd.stages import common as stages
from mtkd.stages import serving as mkd_serving
from mtkd.stages.inputs import encoder, examples_of
from mtkd.workflow.jobs import SYSTEMS, mkd_seeds, mkd_tasks, mtdnn_runs, variants

COLUMNS = ["study", "system", "task", "split", "metric", "value", "seed", "n", "params", "seconds"]


@dataclass(frozen=True)
class Report:
    """What the report shows; `write_report` says what the tables hold."""

    folder: Path
    results: pd.DataFrame
    curves: pd.DataFrame
    soft: pd.DataFrame
    selection: pd.DataFrame
    sizes: pd.DataFrame
    run: dict
    compared: comparisons.Compared
    mkd: mkd_report.Found | None = None
    ablation: ablation_report.Found | None = None
    adaptation: pd.DataFrame | None = None
    ranking: pd.DataFrame | None = None


def report(study: Study) -> Report:
    """Collects every stage's output (making what is missing) and writes reports/<study>/: results.csv, run.json, tables, …"""
    name, dropout = study.student_encoder, study.model.encoder_dropout
    mtdnns = {found: stages.mtdnn(study, *found) for found in mtdnn_runs(study)}
    teachers = {task: stages.teacher(study, task) for task in study.multitask}
    students = {seed: stages.student(study, seed) for seed in study.seeds}
    tuned = {
        (system, seed): stages.finetune(study, system, seed)
        for system in SYSTEMS
        for seed in study.seeds
    }
    baselines = {seed: mtdnns[name, dropout, seed] for seed in study.seeds}
    scored = [
        *baselines.values(),
        *students.values(),
        *(found for part in tuned.values() for found in part),
        *teachers.values(),
    ]
    results = pd.concat([found.frame("scores.csv") for found in scored], ignore_index=True).assign(
        study=study.name
    )[COLUMNS]
    curves = [
        _curve(
            found,
            f"{run[0]}-{run[1]:g}-s{run[2]}",
            "mt-dnn" if found in baselines.values() else "candidate",
            run[2],
        )
        for run, found in mtdnns.items()
    ]
    curves += [_curve(found, f"s{seed}", "mt-dnn-kd", seed) for seed, found in students.items()]
    students_of_mkd, distilled = _mkd(study, results)
    levers, ways = _ablation(study, results)
    compared = _compared(
        study,
        [*scored, *students_of_mkd, *levers],
        [*comparisons.PAIRS, *mkd_report.pairs(distilled), *ablation_report.pairs(ways)],
    )
    adapted, of_snli = adaptation.results(study) if study.adaptation else ([], None)
    ranked, of_candidates = ranking.results(study)
    scored += [
        *students_of_mkd,
        *levers,
        *(ablation.sources(study) if ways else []),
        *adapted,
        *ranked,
    ]
    members = [member for task in teachers for _, _, member in stages.members_of(study, task)]
    made = [
        stages.data(study),
        *(encoder(study, key) for key in study.encoders),
        *stages.further(study).values(),
    ]
    everything = [*made, *mtdnns.values(), *members, *scored]
    found = Report(
        folder=work.reports(study),
        results=results,
        curves=pd.concat(curves, ignore_index=True),
        soft=pd.concat(
            [found.frame("certainty.parquet") for found in teachers.values()], ignore_index=True
        ),
        selection=stages.selection(study),
        sizes=sizes(study),
        run=_run(study, everything),
        compared=compared,
        mkd=distilled and replace(distilled, compared=compared),
        ablation=ways and replace(ways, compared=compared),
        adaptation=of_snli,
        ranking=of_candidates,
    )
    write_report(
        found.folder,
        study=study,
        results=found.results,
        curves=found.curves,
        soft=found.soft,
        selection=found.selection,
        sizes=found.sizes,
        run=found.run,
        compared=found.compared,
        mkd=found.mkd,
        ablation=found.ablation,
        adaptation=found.adaptation,
        ranking=found.ranking,
    )
    return found


def _mkd(study: Study, results: pd.DataFrame) -> tuple[list[Artifact], mkd_report.Found | None]:
    """MKD's students with their scores beside the other systems', and what all of them cost to run; nothing where there are none."""
    if study.mkd is None:
        return [], None
    ways = [
        way
        for name in study.mkd.students
        for seed in mkd_seeds(study)
        for way in mkd.runs(study, name, seed).values()
    ]
    parts = [found for way in ways for found in way]
    rows = pd.concat([found.frame("scores.csv") for found in parts], ignore_index=True).assign(
        study=study.name
    )[COLUMNS]
    served = mkd_serving.serving(study)
    found = mkd_report.Found(
        results=pd.concat([results, rows], ignore_index=True),
        costs=served.frame("costs.csv"),
        machine=served.json("machine.json"),
        students=list(study.mkd.students),
        tasks=mkd_tasks(study),
        teacher="mt-dnn:mtl" if study.mkd.teacher == "mt-dnn" else "mt-dnn-ensemble",
    )
    return [*parts, served], found


def _compared(
    study: Study, scored: list[Artifact], pairs: list[tuple[str, str]]
) -> comparisons.Compared:
    """The pairs by their stages' predictions; a stage without any (of an earlier version) is named, not run again."""
    parts, lacking = [], []
    for found in scored:
        rows = (
            found.frame("scores.csv").drop_duplicates("system")
            if "scores.csv" in found.record["files"]
            else pd.DataFrame()
        )
        for row in rows.itertuples():  # one, or none where a stage only measures
            if not any(row.system in pair for pair in pairs):
                continue
            if "predictions.parquet" in found.record["files"]:
                parts.append((row.system, row.seed, found.frame("predictions.parquet")))
            else:
                lacking.append(row.system)
    return comparisons.compare([study.task(name) for name in study.tasks], parts, pairs, lacking)


def _ablation(
    study: Study, results: pd.DataFrame
) -> tuple[list[Artifact], ablation_report.Found | None]:
    """The students of other ways to distil, and what the report shows of them; nothing where there are none."""
    if study.ablation is None:
        return [], None
    found = ablation_report.Found(
        results=results,
        rows=ablation.scores(study).assign(study=study.name)[COLUMNS],
        variants=variants(study),
        keep=study.candidates.ensemble_size,
        tasks=study.multitask,
    )
    return ablation.students(study), found


def _curve(found: Artifact, run: str, system: str, seed: int) -> pd.DataFrame:
    return found.frame("curve.csv").assign(run=run, system=system, seed=seed)


def sizes(study: Study) -> pd.DataFrame:
    """Table 1 from the data, with the mean word pieces an example under the student's tokenizer."""
    table = stages.data(study).frame("sizes.csv")

    def pieces(row) -> float:
        found = (
            None
            if row.missing
            else examples_of(study, study.student_encoder, study.task(row.task), row.split)
        )
        return np.nan if found is None else round(float(found.lengths.mean()), 1)

    return table.assign(
        pieces=[pieces(row) for row in table.itertuples()],
        metrics=[study.task(name).metrics for name in table.task],
    )


def _run(study: Study, artifacts: list[Artifact]) -> dict:
    """run.json: what made the results."""
    seconds: dict[str, float] = {}
    notes: list[str] = []
    for found in {found.path: found for found in artifacts}.values():
        stage = found.path.relative_to(work.folder(study, "")).parts[0]
        seconds[stage] = seconds.get(stage, 0) + found.seconds
        if "notes.json" in found.record["files"]:
            notes += found.json("notes.json")
    origins = {}
    for name in study.encoders:
        found = encoder(study, name)
        about = {key: value for key, value in found.json("origin.json").items() if key != "loss"}
        origins[name] = about | {"fingerprint": found.fingerprint}
    return {
        **provenance(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "study": study.model_dump(),
        "computed at commits": sorted({found.record["made_by"]["commit"] for found in artifacts}),
        "data": stages.data(study).fingerprint,
        "encoders": origins,
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "notes": sorted(set(notes)),
    }
