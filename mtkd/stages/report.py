"""Stage 11: the results of all stages in one tidy table and a page.

This stage's output is the report's folder, not an artifact: it is rendered anew at every run.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

import pandas as pd

from mtkd import paths, stages
from mtkd.artifacts import RECORD, Artifact, read
from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.provenance import provenance
from mtkd.report.scores import CANDIDATE
from mtkd.stages import data, finetune, mtdnn, pretrain, student, teacher
from mtkd.stages.common import SCORE_COLUMNS, Run
from mtkd.stages.inputs import Inputs, encoder_run
from mtkd.training.soft_targets import CONFIDENCE_COLUMNS

NAME = "11_report"


def runs(study: Study) -> list[Run]:
    """Return the one run."""
    return [Run(NAME)]


def parents(study: Study, run: Run) -> list[Run]:
    """Return every other run of the study."""
    others = [module for name, module in stages.stages().items() if name != NAME]
    return [one for module in others for one in module.runs(study)]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that the report is made of, beside those of its parents."""
    return study.model_dump(exclude={"about", "threads", "resources"})


def steps(study: Study, run: Run) -> int:
    """Return 0: nothing is trained."""
    return 0


def run(study: Study, finished: bool = False):
    """Collect every stage's output, write reports/<study>/ and return its `ReportData`.

    Runs that are not finished are made, or left out with `finished`.
    """
    # Drawing is slow to import, and every process of the study imports the stages.
    from mtkd.report import predictions
    from mtkd.report.claims import claims
    from mtkd.report.scores import train_sizes
    from mtkd.report.sections import ablation, adaptation, mkd, ranking, rows_of
    from mtkd.report.significance import PAIRS, Resampled, compare
    from mtkd.report.write import ReportData, write_report

    inputs = Inputs(study, Run(NAME), finished)
    main = _main_artifacts(study, inputs)
    results = rows_of(study.name, main, "scores.csv")
    needed = {mkd: ["09_mkd"], ablation: ["06_ablation", teacher.NAME]}
    needed |= {adaptation: ["07_adaptation"], ranking: ["08_ranking"]}
    sections = [
        module.section(study, results, inputs.only)
        for module, names in needed.items()
        if all(map(inputs.only, names))
    ]
    pairs = [*PAIRS, *(pair for section in sections for pair in section.pairs())]
    further = inputs.only("06_ablation", "09_mkd").values()
    tasks = [study.task(name) for name in [*study.tasks, *study.rankings]]
    resampled = Resampled(tasks, _predictions([*main, *further], pairs))
    compared, sizes = compare(resampled, pairs), inputs.data.frame("sizes.csv")
    teachers = inputs.only(teacher.NAME).values()
    confidence = [one.frame("confidence.parquet") for one in teachers]
    lengths = inputs[encoder_run(study.student_encoder)].frame("lengths.csv")
    report = ReportData(
        study=study,
        results=results,
        candidates=_candidates(study, inputs),
        curves=_curves(study, inputs),
        soft=pd.concat([pd.DataFrame(columns=CONFIDENCE_COLUMNS), *confidence], ignore_index=True),
        sizes=sizes.merge(lengths[["task", "split", "cut"]], "left", ["task", "split"]),
        run=_about(study, inputs),
        compared=compared,
        claims=claims(resampled, compared.kept, study.distil.teachers, train_sizes(sizes)),
        sections=tuple(replace(section, compared=compared) for section in sections),
    )
    folder = paths.reports(study.name)
    write_report(report, folder)
    every = chain(_predictions([*main, *further]), _candidates_predictions(study, inputs))
    predictions.write_predictions(folder / predictions.FILE, tasks, every)
    return report


def _main_artifacts(study: Study, inputs: Inputs) -> list[Artifact]:
    """Return those of the main systems in the order of results.csv."""
    baselines = {mtdnn.baseline_run(study, seed) for seed in study.seeds}
    main = [one for run, one in inputs.only(mtdnn.NAME).items() if run in baselines]
    others = (inputs.only(stage.NAME).values() for stage in (student, finetune, teacher))
    main += [one for group in others for one in group]
    if not main:
        raise UserError(f"Study {study.name} has no result yet: run 'mtkd run {study.name}'.")
    return main


def _candidates(study: Study, inputs: Inputs) -> pd.DataFrame:
    """Return the candidates' rows of results.csv, best first: fine-tuned on each task, and before.

    Fine-tuned are those of the study's largest ensembles. Empty where no ensemble is finished.
    """
    teachers = list(inputs.only(teacher.NAME).values())
    if not teachers:
        return pd.DataFrame(columns=["study", *SCORE_COLUMNS])
    tuned = pd.concat([one.frame("members.csv") for one in teachers], ignore_index=True)
    runs = {one.name: mtdnn.candidate_run(one) for one in study.candidate_models}
    before = [
        inputs[runs[name]].frame("scores.csv").assign(candidate=name, stage=":mtl")
        for name in teachers[0].frame("selection.csv").candidate
    ]
    rows = pd.concat([tuned.assign(stage=""), *before], ignore_index=True)
    rows["system"] = CANDIDATE + rows["candidate"] + rows["stage"]
    return rows.assign(study=study.name)[["study", *SCORE_COLUMNS]]


def _predictions(
    artifacts: Iterable[Artifact], pairs: list[tuple[str, str]] | None = None
) -> Iterator[tuple[str, float, pd.DataFrame]]:
    """Yield system, seed and predictions of the systems in `pairs`; None: of all."""
    for artifact in artifacts:
        runs = artifact.frame("scores.csv")[["system", "seed"]].drop_duplicates()
        if pairs is not None:
            runs = runs[runs["system"].isin([*chain(*pairs)])]
        rows = artifact.frame("predictions.parquet") if len(runs) else None
        for system, seed in runs.itertuples(index=False):
            yield system, seed, rows[rows["system"] == system] if "system" in rows else rows


def _candidates_predictions(
    study: Study, inputs: Inputs
) -> Iterator[tuple[str, float, pd.DataFrame]]:
    """Yield system, seed and predictions of candidates: fine-tuned on each task, and before."""
    size = teacher.ensemble_sizes(study)[-1]
    for run in inputs.only(teacher.NAME):
        for one, member in teacher.members(study, run.task, size):
            yield f"{CANDIDATE}{one.name}", one.seed, member.frame("predictions.parquet")
    for one in study.candidate_models if inputs.only(teacher.NAME) else ():
        frame = inputs[mtdnn.candidate_run(one)].frame("predictions.parquet")
        yield f"{CANDIDATE}{one.name}:mtl", one.seed, frame


def _curves(study: Study, inputs: Inputs) -> pd.DataFrame:
    """Return the learning curves of multi-task training."""
    systems = dict.fromkeys(inputs.only(mtdnn.NAME), "candidate")
    systems |= {mtdnn.baseline_run(study, seed): "mt-dnn" for seed in study.seeds}
    systems |= dict.fromkeys(inputs.only(student.NAME), "mt-dnn-kd")
    curves = [
        inputs[run].frame("curve.csv").assign(run=run.name, system=system, seed=run.seed)
        for run, system in systems.items()
        if run in inputs.artifacts
    ]
    return pd.concat(curves, ignore_index=True)


def _about(study: Study, inputs: Inputs) -> dict:
    """Return run.json: what made the results."""
    seconds, commits, machines, notes, encoders = {}, set(), set(), set(), {}
    shared = map(Run, stages.stages())  # the owners of parts that several runs read
    for run in dict.fromkeys([*inputs.artifacts, *shared]):
        artifacts = [inputs[run]] if run in inputs.artifacts else []
        parts = run.part_folder(study, "").rglob(RECORD)
        for one in (*artifacts, *(read(path.parent) for path in parts)):
            seconds[run.stage] = round(seconds.get(run.stage, 0) + one.seconds, 1)
            commits.add(one.record["made_by"]["commit"])
            machines.add(one.record["made_by"]["machine"])
    for run, artifact in inputs.artifacts.items():
        if "notes.json" in artifact.record["files"]:
            notes |= set(artifact.json("notes.json"))
        if run.stage == pretrain.NAME:
            origin = artifact.json("origin.json") | {"fingerprint": artifact.fingerprint}
            encoders[run.encoder] = {key: one for key, one in origin.items() if key != "loss"}
    return {
        **provenance(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "study": study.model_dump(),
        "computed at commits": sorted(commits),
        "computed on": sorted(machines),
        "unfinished": [
            run.name for run in parents(study, inputs.this) if run not in inputs.artifacts
        ],
        "data": inputs[Run(data.NAME)].fingerprint,
        "encoders": encoders,
        "seconds": seconds,
        "notes": sorted(notes),
    }
