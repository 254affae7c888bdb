"""The stages of a study: one module a notebook, each with the same five functions.

A stage module holds

    NAME                           its notebook's name, such as "02_mtdnn"
    runs(study) -> list[Run]       the parameters of each run
    parents(study, run)            the runs whose artifacts this run reads: the graph's edges
    depends(study, run) -> dict    the settings that change the run's artifact
    run(study, **parameters)       the artifact, built if it is not there
    steps(study, run) -> int       updates of weights, for estimates; left out where there are none

Everything else derives from these: the workflow's graph and keys, `mtkd run --dry-run`, `mtkd
stage`, artifact folders, and the report's list of runs. A new stage is a new module in this
package.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from mtkd import paths
from mtkd.artifacts import file_hash, fingerprint
from mtkd.config.study import Study
from mtkd.stages.common import Run, load, load_all, lookup

__all__ = ["Run", "all_runs", "find_run", "keys", "load", "load_all", "parents", "stages", "steps"]


@cache
def stages() -> dict[str, ModuleType]:
    """Return the stage modules by NAME, in the notebooks' order."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found = {module.NAME: module for module in modules if hasattr(module, "NAME")}
    return dict(sorted(found.items()))


def all_runs(study: Study) -> list[Run]:
    """Return every run of a study, in an order in which parents come before children."""
    return [run for module in stages().values() for run in module.runs(study)]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the runs whose artifacts a run reads."""
    return stages()[run.stage].parents(study, run)


def steps(study: Study, run: Run) -> int:
    """Return about how many updates of weights a run makes."""
    module = stages()[run.stage]
    return module.steps(study, run) if hasattr(module, "steps") else 0


def find_run(study: Study, name: str) -> Run:
    """Return the run of that name, such as `02_mtdnn.uncased-0.1-s0`; raise `UserError` if none."""
    return lookup(study, "run", name, {run.name: run for run in all_runs(study)})


def keys(study: Study) -> dict[Run, str]:
    """Return a key for every run that changes when its settings, notebook or parents change."""
    known: dict[Run, str] = {}
    for run in all_runs(study):
        notebook = paths.notebook(run.stage)
        source = file_hash(notebook) if notebook.is_file() else None
        above = [known[parent] for parent in parents(study, run)]
        settings = stages()[run.stage].depends(study, run)
        known[run] = fingerprint([run.name, settings, source, above])
    return known
