"""A rule per stage, over the plan that `mtkd run` writes (mtkd/workflow/jobs.py, write_plan).

Paths are relative to Snakemake's folder. Run it by `mtkd run STUDY`.
"""

RUNS, REPORTS = config["runs"], config["reports"]
AGAIN = ("mem_mb", "runtime")  # a second attempt asks for twice the memory and time


def of_run(stage, entry):
    """Return what the plan says of a run as a function of the rule's wildcards."""
    return lambda wildcards: RUNS[stage + wildcards.run][entry]


def resource(stage, name):
    """Return what a run asks for as a function of the rule's wildcards and the attempt."""

    def asked(wildcards, attempt):
        value = RUNS[stage + wildcards.run]["resources"][name]
        return attempt * value if name in AGAIN else value

    return asked


wildcard_constraints:
    run=r"(\..+)?",


# The pages are seconds of work: they are made where the study was started.
localrules: all, pages


rule all:
    input: f"{REPORTS}/index.html", [run["output"] for run in RUNS.values()]


for stage, priority in config["priorities"].items():

    rule:
        name: f"stage_{stage}"
        input: of_run(stage, "inputs")
        output: f"{REPORTS}/notebooks/{stage}{{run}}.ipynb"
        log: f"{REPORTS}/logs/{stage}{{run}}.log"
        params: command=of_run(stage, "command")
        priority: priority
        threads: config["threads"]
        resources: **{name: resource(stage, name) for name in ("mem_mb", "runtime", "gpu", "gpu_slots")}
        shell: "{{ {params.command}; }} 2> {log:q}.err"


rule pages:
    input: [run["output"] for run in RUNS.values()]
    output: f"{REPORTS}/index.html"
    log: f"{REPORTS}/logs/pages.log"
    params: command=lambda wildcards: config["pages"]
    shell: "{{ {params.command}; }} 2> {log:q}.err"
