"""The order of the stages, a rule per stage, all of it from the stages' own declarations.

Run it by `mtkd run STUDY`, or by `snakemake --config study=quick -c 2`.
"""

from mtkd import paths
from mtkd.config.study import load
from mtkd.workflow.jobs import mtkd_command, study_jobs

NAME, OVERRIDES = str(config["study"]), config.get("overrides", [])
STUDY = load(NAME, OVERRIDES)
REPORTS = paths.reports(STUDY.name)
JOBS = study_jobs(STUDY, NAME, OVERRIDES)  # stage -> run's label -> job
EXECUTED = [job.output for jobs in JOBS.values() for job in jobs.values()]


def of(stage, field):
    """Return a job's field as a function of the rule's wildcards."""
    return lambda wildcards: getattr(JOBS[stage][wildcards.run.removeprefix(".")], field)


def resource(stage, name):
    """Return what a job asks for as a function of the rule's wildcards and the attempt."""
    return lambda wildcards, attempt: of(stage, "resources")(wildcards)(attempt)[name]


wildcard_constraints:
    run=r"(\..+)?",


# The pages are seconds of work: they are made where the study was started.
localrules: all, pages


rule all:
    input: REPORTS / "index.html", EXECUTED


for stage, jobs in JOBS.items():

    rule:
        name: f"stage_{stage}"
        input: of(stage, "inputs")
        output: f"{REPORTS}/notebooks/{stage}{{run}}.ipynb"
        log: f"{REPORTS}/logs/{stage}{{run}}.log"
        params: key=of(stage, "key"), command=of(stage, "command")
        priority: max(job.priority for job in jobs.values())
        threads: STUDY.threads
        resources: **{name: resource(stage, name) for name in ("mem_mb", "runtime", "gpu", "gpu_slots")}
        shell: "{params.command} 2> {log:q}.err"


rule pages:
    input: EXECUTED
    output: REPORTS / "index.html"
    log: REPORTS / "logs/pages.log"
    params: command=mtkd_command(["pages", NAME], OVERRIDES)
    shell: "{params.command} 2> {log:q}.err"
