"""The order of the stages, one rule per run of a notebook, all of it from the stages' own declarations.

Run it by `mtkd run STUDY`, or by `snakemake --config study=quick -c 2`.
"""

from mtkd import paths
from mtkd.config.study import load
from mtkd.workflow.jobs import all_jobs, shell_command

NAME, OVERRIDES = str(config["study"]), config.get("overrides", [])
STUDY = load(NAME, OVERRIDES)
REPORTS = paths.reports(STUDY.name)
JOBS = all_jobs(STUDY, NAME, OVERRIDES)
EXECUTED = [job.output for job in JOBS]


# The pages are seconds of work: they are made where the study was started.
localrules: all, pages


rule all:
    input: REPORTS / "index.html", EXECUTED


for job in JOBS:

    rule:
        name: job.rule
        input: job.inputs
        output: job.output
        log: job.log
        params: key=job.key
        priority: job.priority
        threads: STUDY.threads
        resources: **job.resources
        shell: job.command


rule pages:
    input: EXECUTED
    output: REPORTS / "index.html"
    log: REPORTS / "logs/pages.log"
    shell: shell_command(["pages", NAME], OVERRIDES) + " 2> {log:q}.err"
