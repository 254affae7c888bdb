"""The order of the stages, a rule per stage, all of it from the stages' own declarations.

Run it by `mtkd run STUDY`, or by `snakemake --config study=quick -c 2`.
"""

from mtkd import paths, stages
from mtkd.config.study import load
from mtkd.workflow import jobs

NAME, OVERRIDES = str(config["study"]), config.get("overrides", [])
STUDY = load(NAME, OVERRIDES)
REPORTS = paths.reports(STUDY.name)
RUNS = {run.name: run for run in stages.all_runs(STUDY)}
KEYS = stages.keys(STUDY)
EXECUTED = {run: str(jobs.executed(STUDY, run)) for run in KEYS}


def of_run(stage, function):
    """Return a function of a run as one of the rule's wildcards."""
    return lambda wildcards: function(RUNS[stage + wildcards.run])


def resource(stage, name):
    """Return what a run asks for as a function of the rule's wildcards and the attempt."""
    return lambda wildcards, attempt: jobs.resources(STUDY, RUNS[stage + wildcards.run], attempt)[name]


def parents(run):
    return [EXECUTED[parent] for parent in stages.parents(STUDY, run)]


def command(run):
    return jobs.mtkd_command(["notebook", NAME, run.name], OVERRIDES)


wildcard_constraints:
    run=r"(\..+)?",


# The pages are seconds of work: they are made where the study was started.
localrules: all, pages


rule all:
    input: REPORTS / "index.html", EXECUTED.values()


for stage, priority in jobs.priorities(STUDY).items():

    rule:
        name: f"stage_{stage}"
        input: of_run(stage, parents)
        output: f"{REPORTS}/notebooks/{stage}{{run}}.ipynb"
        log: f"{REPORTS}/logs/{stage}{{run}}.log"
        params: key=of_run(stage, KEYS.get), command=of_run(stage, command)
        priority: priority
        threads: STUDY.threads
        resources: **{name: resource(stage, name) for name in ("mem_mb", "runtime", "gpu", "gpu_slots")}
        shell: "{params.command} 2> {log:q}.err"


rule pages:
    input: EXECUTED.values()
    output: REPORTS / "index.html"
    log: REPORTS / "logs/pages.log"
    params: command=jobs.mtkd_command(["pages", NAME], OVERRIDES)
    shell: "{params.command} 2> {log:q}.err"
