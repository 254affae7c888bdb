"""The model and the distillation drawn by code: what the paper's Figures 1 and 2 show, with the study's own tasks."""

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mtkd.config.study import Study
from mtkd.report.scores import title
from mtkd.report.sections.ablation import amounts
from mtkd.report.style import COLOURS, MUTED, blank, styled

SHARED, HEAD, DATA, TEACHER = "#dbe9f6", "#fdebd9", "#f1f1f1", "#dcf0e8"
_KINDS = {
    "single": "single sentence",
    "pair": "pair of sentences",
    "similarity": "similarity",
    "ranking": "ranking",
}


def _canvas(width: float, height: float):
    """Axes whose units are a tenth of an inch."""
    figure = blank(width, height)
    axes = figure.subplots()
    axes.set(xlim=(0, width * 10), ylim=(0, height * 10))
    axes.set_axis_off()
    return figure, axes


def _box(
    axes,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    face: str,
    size: float = 9.5,
    edge="#666666",
) -> None:
    shape = FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.8",
        facecolor=face,
        edgecolor=edge,
    )
    axes.add_patch(shape)
    axes.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=size,
        linespacing=1.35,
    )


def _arrow(
    axes, start: tuple[float, float], end: tuple[float, float], dashed: bool = False
) -> None:
    line = dict(
        arrowstyle="-|>",
        color="#444444",
        linewidth=1.2,
        linestyle="--" if dashed else "-",
        shrinkA=0,
        shrinkB=0,
    )
    axes.annotate("", end, start, arrowprops=line)


@styled
def model(study: Study) -> Figure:
    """Figure 1: lexicon encoder and Transformer encoder, shared by all tasks, below one head a task of Algorithm 1."""
    heads = study.multitask
    rows = [heads[start : start + 5] for start in range(0, len(heads), 5)]
    top = 31.5 + 9.5 * len(rows)
    figure, axes = _canvas(10, (top + 1) / 10)
    _box(
        axes,
        22,
        1,
        56,
        5.5,
        "X:  [CLS] x₁ x₂ … [SEP] x₁ x₂ … [SEP]      one sentence or a pair",
        DATA,
    )
    _box(axes, 22, 10, 56, 6, "Lexicon encoder l₁:  word + segment + position embeddings", SHARED)
    _box(axes, 22, 19.5, 56, 6, "Transformer encoder l₂:  contextual embeddings C", SHARED)
    for low, high in ((6.5, 10), (16, 19.5), (25.5, 29.5)):
        _arrow(axes, (50, low), (50, high))
    axes.text(20.5, 18, "shared by\nall tasks", ha="right", va="center", color=MUTED)
    axes.text(52, 27.5, "x: the vector of [CLS]", va="center", color=MUTED)
    for place, row in enumerate(rows):
        width = 96 / max(len(row), 3)
        left = (100 - width * len(row)) / 2
        for column, name in enumerate(row):
            _box(
                axes,
                left + column * width + 0.7,
                30.5 + 9.5 * place,
                width - 1.4,
                8.5,
                _head(study, name),
                HEAD,
                size=9,
            )
    axes.add_patch(
        FancyBboxPatch(
            (1, 29.6),
            98,
            top - 29.4,
            boxstyle="round,pad=0,rounding_size=0.8",
            fill=False,
            edgecolor="#aaaaaa",
            linestyle="--",
        )
    )
    described = ", ".join(
        _head(study, name).replace("\n", ": ", 1).replace("\n", ", ") for name in heads
    )
    figure.set_label(
        f"The model, from below: the input X, the lexicon encoder, the Transformer encoder, shared by all tasks; "
        f"above them a head a task: {described}."
    )
    return figure


def _head(study: Study, name: str) -> str:
    task = study.task(name)
    output = "score  w · x" if task.regression else f"{task.num_outputs} classes  softmax(W x)"
    return f"{task.title}\n{_KINDS[task.kind]}\n{output}"


@styled
def distillation(study: Study) -> Figure:
    """Figure 2: candidates, an ensemble a task as its teacher, soft targets, and the student that learns from both."""
    teachers, keep = study.distil.teachers, study.candidates.ensemble_size
    weights = (
        ("w", "(1 − w)")
        if study.distil.annealing
        else (f"{study.distil.hard_weight:g}", f"{1 - study.distil.hard_weight:g}")
    )
    grows = "w grows from 0 to 1" if study.distil.annealing else ""
    untaught = [name for name in study.multitask if name not in teachers]
    heads = "new heads" if study.candidates.new_head else "their own heads"
    candidates = len(study.encoders) * len(study.candidates.dropouts)
    further = amounts(study.distil.unlabelled) if study.distil.unlabelled else ""
    and_more = "\non further texts Q alone" if further else ""
    rows = [f"{title(name)} train set" for name in teachers]
    height = 11.0 * len(rows) + 11 if untaught else max(11.0 * len(rows) + 4, 22)
    figure, axes = _canvas(11, height / 10)
    middle = 9 + 11 * len(rows) / 2 if untaught else height / 2
    _box(
        axes,
        1,
        middle - 5.5,
        17,
        11,
        f"{keep} best of {candidates}\nsingle MT-DNNs,\ntrained on all tasks",
        SHARED,
    )
    for place, (name, text) in enumerate(zip(teachers, rows, strict=True)):
        y = middle + 5.5 * len(rows) - 8.5 - 11 * place
        _arrow(axes, (18, middle), (24, y + 4))
        _box(
            axes,
            24,
            y,
            25,
            8,
            f"Teacher of {title(name)}: {keep} MT-DNNs\nfine-tuned on the {text},\n{heads}",
            TEACHER,
            size=8.6,
        )
        _arrow(axes, (49, y + 4), (54, y + 4))
        _box(
            axes,
            54,
            y,
            21,
            8,
            f"{title(name)}: soft targets\nQ = avg(Q¹ … Q{_raised(keep)})\nand correct targets{and_more}",
            DATA,
            size=7.6 if further else 9,
        )
        _arrow(axes, (75, y + 4), (83, middle + (y + 4 - middle) * 0.25))
    plain = ", ".join(map(title, untaught))
    if plain:
        _box(
            axes,
            24,
            1,
            51,
            5.5,
            f"Tasks without a teacher, correct targets only: {plain}",
            DATA,
            size=8.6 if len(plain) < 48 else 7.4,
        )
        _arrow(axes, (75, 3.75), (86, middle - 9))
    _box(
        axes,
        83,
        middle - 9,
        26,
        18,
        f"Student: one MT-DNN_KD\nby Algorithm 1\n\nloss = {weights[0]} · correct targets\n"
        f"+ {weights[1]} · soft targets{grows and chr(10) + grows}",
        "#fbe3d4",
        size=9,
        edge=COLOURS["mt-dnn-kd"],
    )
    figure.set_label(
        f"The distillation: the {keep} best of {candidates} single MT-DNNs are fine-tuned into a teacher for each of "
        f"{', '.join(map(title, teachers)) or 'no task'}; their averaged class probabilities are the soft targets. One "
        f"student learns from correct and soft targets (weights {weights[0]} and {weights[1]}{grows and ', ' + grows})"
        f"{plain and ', from correct targets alone on ' + plain}{further and ', from soft targets alone on ' + further}."
    )
    return figure


def _raised(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))
