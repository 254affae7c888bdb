"""The graph's edges: a run reads its parents alone, and every kind of parent is read."""

import shutil

import pytest
from integration.stages.small import TINY

from mtkd.artifacts import Artifact
from mtkd.config.study import load
from mtkd.stages import Run, all_runs, load_all, parents, serving, stages
from mtkd.stages.inputs import Inputs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("work")]
REPORT = "11_report"


@pytest.fixture(scope="module")
def study(every_stage):
    return load(TINY, every_stage)


@pytest.fixture(scope="module")
def reads(study, work):
    """Run every stage but the report; return {run: the runs whose artifacts it read}."""
    reads: dict[Run, set[Run]] = {}
    running: list[Run] = []
    folders = {run.folder(study): run for run in all_runs(study)}
    file, item = Artifact.file, Inputs.__getitem__

    def owner(artifact: Artifact) -> Run | None:
        for folder in (artifact.path, *artifact.path.parents):
            if folder.name.endswith("parts"):
                return folders.get(folder.with_name(folder.name.removesuffix(".parts")))
            if folder in folders:
                return folders[folder]
        return None

    def watched_file(self, name):
        if running and (run := owner(self)):
            reads.setdefault(running[-1], set()).add(run)
        return file(self, name)

    def watched_item(self, run):
        reads.setdefault(self.this, set()).add(run)
        return item(self, run)

    def watch(module):
        run_stage = module.run

        def watched_run(study, **parameters):
            running.append(Run(module.NAME, **parameters))
            try:
                return run_stage(study, **parameters)
            finally:
                running.pop()

        return watched_run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Artifact, "file", watched_file)
        patch.setattr(Inputs, "__getitem__", watched_item)
        for module in stages().values():
            patch.setattr(module, "run", watch(module))
        load_all(study, [run for run in all_runs(study) if run.stage != REPORT])
    return {run: others - {run} for run, others in reads.items()}


def test_a_run_reads_its_parents_alone(study, reads):
    for run, others in reads.items():
        assert others <= set(parents(study, run)), run.name


def test_every_kind_of_parent_is_read(study, reads):
    kinds: dict[str, set[str]] = {}
    for run in all_runs(study):
        kinds.setdefault(run.stage, set()).update(one.stage for one in parents(study, run))
    del kinds[REPORT]
    assert serving.parents(study, Run(serving.NAME))  # it waits for all, and reads few
    del kinds[serving.NAME]
    for stage, above in kinds.items():
        read = {one.stage for run, others in reads.items() if run.stage == stage for one in others}
        assert read == above, stage


def test_a_stage_that_lacks_an_edge_fails(study, reads, monkeypatch):
    """Without one kind of its parents, a stage stops at the artifact that it asks for."""
    silent = []
    for name, module in stages().items():
        if name in (REPORT, serving.NAME):
            continue
        edges = module.parents
        kinds = {one.stage: run for run in module.runs(study) for one in edges(study, run)}
        for kind, run in kinds.items():

            def fewer(study, run, kind=kind, edges=edges):
                return [one for one in edges(study, run) if one.stage != kind]

            with monkeypatch.context() as patch:
                patch.setattr(module, "parents", fewer)
                shutil.rmtree(run.folder(study), ignore_errors=True)
                shutil.rmtree(run.part_folder(study, "part").parent, ignore_errors=True)
                try:
                    module.run(study, **run.parameters)
                except KeyError:
                    continue
            silent.append((name, kind))
    assert not silent


def test_an_artifact_that_is_no_parent_is_refused(study):
    inputs = Inputs(study, Run("05_finetune", system="bert", seed=0))
    with pytest.raises(KeyError, match=r"reads 04_student\.s0, which is none of its parents"):
        inputs[Run("04_student", seed=0)]
    with pytest.raises(KeyError, match="none of its parents"):
        inputs.part(Run("01_pretrain", encoder="cased"), "encoder")
