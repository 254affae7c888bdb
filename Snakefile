"""The order of the stages: one rule a notebook. Run it by `mtkd run STUDY`, or by snakemake --config study=quick -c 2."""

import shlex

from mtkd.workflow import jobs as plan
from mtkd.config import study as studies
from mtkd import paths as work

OVERRIDES = config.get("overrides", "")
STUDY = studies.load(config["study"], OVERRIDES)
REPORTS = str(work.reports(STUDY))
NAMES = {notebook: [job.run for job in plan.jobs(STUDY) if job.notebook == notebook]
         for notebook in dict.fromkeys(job.notebook for job in plan.jobs(STUDY))}


def done(notebook, runs=None):
    """Executed notebooks of a stage: all of its runs, or some."""
    wanted = NAMES.get(notebook, []) if runs is None else runs
    return [f"{REPORTS}/notebooks/{notebook}{'.' + run if run else ''}.ipynb" for run in wanted]


EXECUTED = [path for notebook in NAMES for path in done(notebook)]


def literal(text):
    """A text as one word of a shell command that Snakemake formats."""
    return shlex.quote(text).replace("{", "{{").replace("}", "}}")


INDEX = literal(f"{REPORTS}/index.html")


def command(notebook, *parameters):
    """A notebook's run with the study and the rule's wildcards as parameters."""
    chosen = " ".join(f"-p {key}={{wildcards.{key}}}" for key in parameters)
    return (f"mtkd notebook {notebook} {{output:q}} --log {{log:q}} -p {literal('study=' + str(config['study']))} "
            f"-p {literal('overrides=' + OVERRIDES)} {chosen} 2> {{log:q}}.err")


def key(notebook, system=""):
    """A stage runs again when a setting or a notebook changes that it depends on."""
    return plan.settings_key(STUDY, notebook, system)


def asks(notebook, run=""):
    """What each job of a notebook asks for; `run` names it by the rule's wildcards."""
    jobs = {job.run: job for job in plan.jobs(STUDY) if job.notebook == notebook}

    def resource(name):
        return lambda wildcards, attempt: plan.asked(STUDY, jobs[run.format(**wildcards)], attempt)[name]

    return {name: resource(name) for name in ("mem_mb", "runtime", "gpu", "gpu_slots")}


candidate_runs = [f"{plan.candidate_name(*found)}-s{STUDY.candidates.seed}" for found in plan.candidates(STUDY)]
baseline = plan.candidate_name(STUDY.student_encoder, STUDY.model.encoder_dropout)
before = {
    "bert": lambda seed: done("01_pretrain", [STUDY.student_encoder]),
    "mt-dnn": lambda seed: done("02_mtdnn", [f"{baseline}-s{seed}"]),
    "mt-dnn-kd": lambda seed: done("04_student", [f"s{seed}"]),
}


wildcard_constraints:
    encoder="[a-z0-9_]+", dropout="[0-9.e-]+", seed="[0-9]+", task="[a-z0-9_]+", system="[a-z-]+", student="[a-z0-9_]+",
    variant="[a-z][a-z0-9.-]*"


# The pages are seconds of work: they are made where the study was started.
localrules: all, pages

rule all:
    # The notebooks too: a clone has the committed index.html, and Snakemake would take it for the end of the work.
    input: f"{REPORTS}/index.html", EXECUTED

rule data:
    output: f"{REPORTS}/notebooks/00_data.ipynb"
    log: f"{REPORTS}/logs/00_data.log"
    params: settings=key("00_data")
    threads: STUDY.threads
    resources: **asks("00_data")
    shell: command("00_data")

rule pretrain:
    input: done("00_data")
    output: REPORTS + "/notebooks/01_pretrain.{encoder}.ipynb"
    log: REPORTS + "/logs/01_pretrain.{encoder}.log"
    params: settings=key("01_pretrain")
    threads: STUDY.threads
    resources: **asks("01_pretrain", "{encoder}")
    shell: command("01_pretrain", "encoder")

rule mtdnn:
    input: lambda wildcards: done("01_pretrain", [wildcards.encoder])
    output: REPORTS + "/notebooks/02_mtdnn.{encoder}-{dropout}-s{seed}.ipynb"
    log: REPORTS + "/logs/02_mtdnn.{encoder}-{dropout}-s{seed}.log"
    params: settings=key("02_mtdnn")
    threads: STUDY.threads
    resources: **asks("02_mtdnn", "{encoder}-{dropout}-s{seed}")
    shell: command("02_mtdnn", "encoder", "dropout", "seed")

rule teacher:
    input: done("02_mtdnn", candidate_runs)
    output: REPORTS + "/notebooks/03_teacher.{task}.ipynb"
    log: REPORTS + "/logs/03_teacher.{task}.log"
    params: settings=key("03_teacher")
    # Teachers before the ensembles that are only scored: the student waits for them.
    priority: 2
    threads: STUDY.threads
    resources: **asks("03_teacher", "{task}")
    shell: command("03_teacher", "task")

rule student:
    input: done("03_teacher", STUDY.distil.teachers)
    output: REPORTS + "/notebooks/04_student.s{seed}.ipynb"
    log: REPORTS + "/logs/04_student.s{seed}.log"
    params: settings=key("04_student")
    priority: 3
    threads: STUDY.threads
    resources: **asks("04_student", "s{seed}")
    shell: command("04_student", "seed")

rule finetune:
    input: lambda wildcards: before[wildcards.system](wildcards.seed)
    output: REPORTS + "/notebooks/05_finetune.{system}-s{seed}.ipynb"
    log: REPORTS + "/logs/05_finetune.{system}-s{seed}.log"
    params: settings=lambda wildcards: key("05_finetune", wildcards.system)
    threads: STUDY.threads
    resources: **asks("05_finetune", "{system}-s{seed}")
    shell: command("05_finetune", "system", "seed")

if STUDY.ablation:
    rule ablation:
        input:
            done("02_mtdnn"), done("03_teacher"),
            lambda wildcards: done("06_ablation", plan.before_variant(STUDY, wildcards.variant, int(wildcards.seed)))
        output: REPORTS + "/notebooks/06_ablation.{variant}-s{seed}.ipynb"
        log: REPORTS + "/logs/06_ablation.{variant}-s{seed}.log"
        params: settings=lambda wildcards: key("06_ablation", wildcards.variant)
        threads: STUDY.threads
        resources: **asks("06_ablation", "{variant}-s{seed}")
        shell: command("06_ablation", "variant", "seed")

if STUDY.adaptation:
    rule adaptation:
        input: lambda wildcards: before[wildcards.system](wildcards.seed)
        output: REPORTS + "/notebooks/06_adaptation.{system}-s{seed}.ipynb"
        log: REPORTS + "/logs/06_adaptation.{system}-s{seed}.log"
        params: settings=lambda wildcards: key("06_adaptation", wildcards.system)
        threads: STUDY.threads
        resources: **asks("06_adaptation", "{system}-s{seed}")
        shell: command("06_adaptation", "system", "seed")

if STUDY.ranking:
    rule ranking:
        input: lambda wildcards: before[wildcards.system](wildcards.seed)
        output: REPORTS + "/notebooks/06_ranking.{system}-s{seed}.ipynb"
        log: REPORTS + "/logs/06_ranking.{system}-s{seed}.log"
        params: settings=lambda wildcards: key("06_ranking", wildcards.system)
        threads: STUDY.threads
        resources: **asks("06_ranking", "{system}-s{seed}")
        shell: command("06_ranking", "system", "seed")

if STUDY.mkd:
    refined = f"{plan.candidate_name(plan.teacher_encoder(STUDY), STUDY.model.encoder_dropout)}-s{STUDY.candidates.seed}"

    rule mkd:
        input: done("02_mtdnn", [refined]) if STUDY.mkd.teacher == "mt-dnn" else done("03_teacher")
        output: REPORTS + "/notebooks/06_mkd.{student}-s{seed}.ipynb"
        log: REPORTS + "/logs/06_mkd.{student}-s{seed}.log"
        params: settings=key("06_mkd")
        threads: STUDY.threads
        resources: **asks("06_mkd", "{student}-s{seed}")
        shell: command("06_mkd", "student", "seed")

    rule serving:
        # Its measurements of time are undisturbed: every other job comes before it or after it.
        input:
            done("03_teacher"), done("04_student"), done("05_finetune"), done("06_ablation"), done("06_adaptation"), done("06_ranking"),
            done("06_mkd")
        output: f"{REPORTS}/notebooks/06_serving.ipynb"
        log: f"{REPORTS}/logs/06_serving.log"
        params: settings=key("06_serving")
        threads: STUDY.threads
        resources: **asks("06_serving")
        shell: command("06_serving")

rule report:
    input:
        done("02_mtdnn"), done("03_teacher"), done("04_student"), done("05_finetune"), done("06_ablation"), done("06_adaptation"),
        done("06_mkd"), done("06_ranking"), done("06_serving")
    output: f"{REPORTS}/notebooks/07_report.ipynb"
    log: f"{REPORTS}/logs/07_report.log"
    params: settings=key("07_report")
    threads: STUDY.threads
    resources: **asks("07_report")
    shell: command("07_report")

rule pages:
    input: EXECUTED
    output: f"{REPORTS}/index.html"
    log: f"{REPORTS}/logs/pages.log"
    # Where storage stands between a job and the file system (Kubernetes), the output is a copy of the page.
    shell: f"mtkd pages {literal(str(config['study']))} 2> {{log:q}}.err && ([ {{output:q}} -ef {INDEX} ] || cp {INDEX} {{output:q}})"
