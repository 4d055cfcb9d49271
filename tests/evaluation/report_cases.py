"""A report of made-up numbers on drawn images and a real (random) basis: every section, and names that bite."""

import random

import torch

from lorweb.basis import mix
from lorweb.basis.health import health
from lorweb.evaluation.atoms import NO_ATOM, AtomGallery
from lorweb.evaluation.failures import failures, losses
from lorweb.evaluation.glossary import described
from lorweb.evaluation.judge_results import counts, graded, preferences
from lorweb.evaluation.neighbours import TaskMixes, nearest
from lorweb.evaluation.pictures import PictureRow, png_bytes
from lorweb.evaluation.report import FailureData, MixData, ReportData
from lorweb.evaluation.results import HEADLINE, Measured, differences, other_differences, per_task, rows_of, summarise
from tests.basis.cases import config, queries, trained
from tests.kontext_tiny import drawn_image
from tests.tiny import tiny_transformer

MODELS = ("lorweb", "lorweb_shuffled", "single_lora", "base", "copy", "codec_truth", "somebody_elses")
STRANGE = "colour/<script>alert('x')</script> & \"more\""
TASKS = {
    "colour/red": "none",
    "weather/snow": "none",
    STRANGE: "value",
    "style/ink-and-colour": "edit",
    "both": "composition",
}


def measured(seed: int = 0) -> list[Measured]:
    """Answers of seven models to three analogies of each task; `brand_new` is a metric that nobody described."""
    draw = random.Random(seed)
    found = []
    for task, holdout in TASKS.items():
        for number in range(3):
            scores = {
                model: {HEADLINE: draw.uniform(0.01, 0.2), "ssim_to_truth": draw.random(), "brand_new": draw.random()}
                for model in MODELS
            }
            kind = task.partition("/")[0]
            found.append(
                Measured(
                    f"{kind}-{len(found):02d}", task, kind, holdout, False, ("photo", "avatar:x")[number % 2], scores
                )
            )
    return found


def report_data() -> ReportData:
    """All of it."""
    answers = measured()
    rows = rows_of(answers)
    numbers, judge = summarise(rows, 50, 0), verdicts(answers)
    for cell, models in judge["grades"].items():
        for model, grades in models.items():
            numbers[cell][model].update(grades)
    metric = described(HEADLINE)
    found = failures(answers, metric)
    settings = config()
    model = tiny_transformer(0)
    trained(model, settings)
    with torch.no_grad():
        mixes = mix(model, queries(len(TASKS) + 3, settings)).double().numpy()
    test, train = (
        TaskMixes(tuple(TASKS), mixes[: len(TASKS)]),
        TaskMixes(("colour/red", "weather/snow", "x"), mixes[-3:]),
    )
    pictures = [picture(m) for m in answers[::3]]
    return ReportData(
        headline=HEADLINE,
        metrics=numbers,
        paired=differences(rows, HEADLINE, 50, 0),
        by_metric=other_differences(rows, 50, 0),
        judge=judge,
        tasks=per_task(answers),
        pictures={"seen": pictures[:2], "unseen": pictures[2:], "worst": pictures[:1]},
        failures=FailureData(found, losses(answers, found), [picture(failure.measured) for failure in found[:2]]),
        mixes=MixData(test, nearest(test, train, 2), health(model, queries(6, settings)), frozenset(train.tasks)),
        atoms=atoms(),
        curves={"train loss": {"lorweb loss": [(1, 0.5), (100, 0.2)], "single_lora loss": [(1, 0.6), (100, 0.3)]}},
        stages={"collect": {"rows_in": 10, "kept": 8, "rejected": {"size": 2}}, "filter": {"rows_in": 8, "kept": 8}},
        facts={"base": "tiny", "weights of candidate": "0" * 64, "query": "effnet cat-aa'b"},
    )


def verdicts(answers: list[Measured]) -> dict:
    """What reports/judge.json holds: ours wins against the single LoRA but for a tie and a reply that is no verdict."""
    rows = []
    for number, m in enumerate(answers):
        for model in ("lorweb", "single_lora"):
            valid = not (model == "single_lora" and number == 0)
            rows.append(question(m, model, "") | {"accuracy": number % 10 + 1 if valid else None, "preservation": 5})
        for rival in ("single_lora", "copy"):
            for first in ("lorweb", rival):
                preferred = None if rival == "copy" else first if number == 1 else "lorweb"
                rows.append(question(m, rival, first) | {"preferred": preferred})
    return {
        "judge": {"model": "a/<judge>", "endpoint": None, "revision": "1234abcd"},
        **counts(rows, 2),
        "grades": graded(rows, answers, 50, 0),
        "preferences": preferences(rows, answers, ("single_lora", "copy"), 50, 0),
    }


def question(m: Measured, model: str, first: str) -> dict:
    """A row of the judge without a verdict."""
    name = f"{'compare' if first else 'grade'}:{model}:{m.analogy}:{first}"
    empty = dict.fromkeys(("accuracy", "preservation", "preferred"))
    return {"id": name, "analogy": m.analogy, "model": model, "first": first, "invalid_replies": 0, "note": "", **empty}


def picture(m: Measured) -> PictureRow:
    """Drawn images of 64 px for an analogy."""
    names = ("a", "a2", "b", "lorweb", "lorweb_shuffled", "single_lora", "base", "somebody_elses", "truth")
    images = {name: png_bytes(drawn_image(number, 64, 64)) for number, name in enumerate(names)}
    scores = {model: values[HEADLINE] for model, values in m.scores.items() if model in images}
    return PictureRow(m.task, f"make it {m.task}", m.cells[0], images, scores)


def atoms() -> AtomGallery:
    """Three atoms on two subjects at two strengths."""
    png = {n: png_bytes(drawn_image(n, 64, 64)) for n in range(20)}
    images = {
        (atom, place, s): png[atom + 4 * place + 8 * round(s)]
        for atom in (2, 0, 3)
        for place in (0, 1)
        for s in (0.5, 1.0)
    }
    images |= {(NO_ATOM, place, 0.0): png[place] for place in (0, 1)}
    subjects = [(png[18], png[0]), (png[19], png[1])]
    return AtomGallery((0.5, 1.0), subjects, [(2, 0.4), (0, 0.3), (3, 0.1)], images)
