"""Stage 11: the results of all stages in one tidy table and a page.

This stage's output is the report's folder, not an artifact: it is rendered anew at every run.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from mtkd import paths, stages
from mtkd.artifacts import RECORD, Artifact, provenance, read
from mtkd.config.study import Study
from mtkd.report.scores import ENSEMBLE
from mtkd.report.sections import Section
from mtkd.report.sections.ablation import AblationResults
from mtkd.report.sections.adaptation import AdaptationResults
from mtkd.report.sections.mkd import MkdResults
from mtkd.report.sections.ranking import RankingResults
from mtkd.report.significance import PAIRS, compare
from mtkd.report.write import ReportData, write_report
from mtkd.stages import (
    ablation,
    adaptation,
    data,
    finetune,
    mkd,
    mtdnn,
    pretrain,
    ranking,
    serving,
    student,
    teacher,
)
from mtkd.stages.common import SCORE_COLUMNS, Run
from mtkd.stages.inputs import Inputs

NAME = "11_report"


def runs(study: Study) -> list[Run]:
    """Return the one run."""
    return [Run(NAME)]


def parents(study: Study, run: Run) -> list[Run]:
    """Return every other run of the study."""
    others = [module for name, module in stages.stages().items() if name != NAME]
    return [one for module in others for one in module.runs(study)]


def depends(study: Study, run: Run) -> dict:
    """Return all settings that figures depend on: the report shows them."""
    return study.model_dump(exclude={"about", "threads", "resources"})


def steps(study: Study, run: Run) -> int:
    """Return 0: nothing is trained."""
    return 0


def run(study: Study) -> ReportData:
    """Collect every stage's output and write reports/<study>/."""
    inputs = Inputs(study, Run(NAME))
    main = _main_runs(study, inputs)
    results = _frames(study, main.values(), "scores.csv")
    sections = _sections(study, inputs, results)
    pairs = [*PAIRS, *(pair for section in sections for pair in section.pairs())]
    further = inputs.only(mkd.NAME, ablation.NAME)
    parts = _predictions([*main.values(), *further.values()], pairs)
    compared = compare([study.task(name) for name in study.tasks], parts, pairs)
    confidence = [one.frame("confidence.parquet") for one in inputs.only(teacher.NAME).values()]
    report = ReportData(
        study=study,
        results=results,
        curves=_curves(study, inputs),
        soft=pd.concat(confidence, ignore_index=True),
        sizes=_sizes(study, inputs),
        run=_about(study, inputs),
        compared=compared,
        sections=tuple(replace(section, compared=compared) for section in sections),
    )
    write_report(report, paths.reports(study.name))
    return report


def _main_runs(study: Study, inputs: Inputs) -> dict[Run, Artifact]:
    """Return the runs of the main systems in the order of results.csv."""
    baselines = {mtdnn.baseline_run(study, seed): None for seed in study.seeds}
    baselines = {run: inputs[run] for run in baselines}
    others = (inputs.only(stage.NAME) for stage in (student, finetune, teacher))
    return {run: artifact for group in (baselines, *others) for run, artifact in group.items()}


def _frames(study: Study, artifacts: Iterable[Artifact], name: str) -> pd.DataFrame:
    """Return the artifacts' rows of a scores table, the study's name first."""
    rows = pd.concat([artifact.frame(name) for artifact in artifacts], ignore_index=True)
    known = [column for column in SCORE_COLUMNS if column in rows] if "params" in rows else []
    others = [column for column in rows if column not in known]
    rows = rows[[*known, *others]]
    rows.insert(0, "study", study.name)
    return rows


def _sections(study: Study, inputs: Inputs, results: pd.DataFrame) -> list[Section]:
    """Return the sections on the further stages that the study has."""
    sections: list[Section] = []
    if study.mkd:
        cost = inputs[Run(serving.NAME)]
        teacher_system = "mt-dnn:mtl" if study.mkd.teacher == "mt-dnn" else ENSEMBLE
        section = MkdResults(
            rows=_frames(study, inputs.only(mkd.NAME).values(), "scores.csv"),
            results=results,
            tasks=study.mkd.tasks,
            costs=cost.frame("costs.csv"),
            machine=cost.json("machine.json"),
            students=list(study.mkd.students),
            teacher=teacher_system,
        )
        sections.append(section)
    if study.ablation:
        section = AblationResults(
            rows=_ablation_rows(study, inputs),
            results=results,
            tasks=study.multitask,
            variants=study.ablation.variants,
            ensemble_size=study.candidates.ensemble_size,
        )
        sections.append(section)
    if study.adaptation:
        rows = _frames(study, inputs.only(adaptation.NAME).values(), "scores.csv")
        sections.append(AdaptationResults(rows))
    if study.ranking:
        rows = _frames(study, inputs.only(ranking.NAME).values(), "rankings.csv")
        sections.append(RankingResults(rows))
    return sections


def _ablation_rows(study: Study, inputs: Inputs) -> pd.DataFrame:
    """Return the rows of the variants' students, then of ensembles of other sizes by size."""
    section = study.ablation
    ordered = [
        Run(ablation.NAME, variant=variant, seed=seed)
        for variant in section.variants
        for seed in section.seeds
    ]
    students = _frames(study, [inputs[run] for run in ordered], "scores.csv")
    ensembles = _frames(study, inputs.only(teacher.NAME).values(), "ensembles.csv")
    size = ensembles["system"].str.rpartition("-")[2].astype(int)
    ensembles = ensembles.iloc[np.argsort(size, kind="stable")]
    return pd.concat([students, ensembles], ignore_index=True)


def _predictions(
    artifacts: Iterable[Artifact], pairs: list[tuple[str, str]]
) -> Iterator[tuple[str, float, pd.DataFrame]]:
    """Yield system, seed and predictions of the systems in `pairs`."""
    wanted = {system for pair in pairs for system in pair}
    for artifact in artifacts:
        runs = artifact.frame("scores.csv")[["system", "seed"]].drop_duplicates()
        runs = runs[runs["system"].isin(wanted)]
        rows = artifact.frame("predictions.parquet") if len(runs) else None
        for system, seed in runs.itertuples(index=False):
            yield system, seed, rows[rows["system"] == system] if "system" in rows else rows


def _curves(study: Study, inputs: Inputs) -> pd.DataFrame:
    """Return the learning curves of multi-task training."""
    baselines = {mtdnn.baseline_run(study, seed) for seed in study.seeds}
    parts = []
    for run, artifact in inputs.only(mtdnn.NAME, student.NAME).items():
        mt_dnn = "mt-dnn" if run in baselines else "candidate"
        system = "mt-dnn-kd" if run.stage == student.NAME else mt_dnn
        curve = artifact.frame("curve.csv")
        parts.append(curve.assign(run=run.label, system=system, seed=run.seed))
    return pd.concat(parts, ignore_index=True)


def _sizes(study: Study, inputs: Inputs) -> pd.DataFrame:
    """Return Table 1's frame with the mean word pieces per example (student's tokenizer)."""
    frame = inputs.data.frame("sizes.csv")
    pieces = []
    for row in frame.itertuples():
        split = inputs.examples(study.student_encoder, study.task(row.task), row.split)
        pieces.append(np.nan if split is None else round(float(split.lengths.mean()), 1))
    metrics = [study.task(name).metrics for name in frame["task"]]
    return frame.assign(pieces=pieces, metrics=metrics)


def _about(study: Study, inputs: Inputs) -> dict:
    """Return run.json: what made the results."""
    seconds, commits, notes = {}, set(), set()
    for run, artifact in inputs.artifacts.items():
        for one in (artifact, *_parts(study, run)):
            seconds[run.stage] = seconds.get(run.stage, 0) + one.seconds
            commits.add(one.record["made_by"]["commit"])
        if "notes.json" in artifact.record["files"]:
            notes |= set(artifact.json("notes.json"))
    encoders = {}
    for run, artifact in inputs.only(pretrain.NAME).items():
        origin = artifact.json("origin.json")
        origin.pop("loss", None)
        encoders[run.encoder] = origin | {"fingerprint": artifact.fingerprint}
    return {
        **provenance(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "study": study.model_dump(),
        "computed at commits": sorted(commits),
        "data": inputs[Run(data.NAME)].fingerprint,
        "encoders": encoders,
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "notes": sorted(notes),
    }


def _parts(study: Study, run: Run) -> list[Artifact]:
    """Return the parts that a run was built from."""
    return [read(path.parent) for path in run.part_folder(study, "").rglob(RECORD)]
