"""The model card: what the model is, what it was made from, how good it is and where it fails, as hubs read it.

The same model and evaluation give the same bytes: no date, no run id, no machine.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from lorweb.evaluation.glossary import described
from lorweb.evaluation.local_names import base_name, encoder_name
from lorweb.evaluation.model_card_facts import CardData, front_matter
from lorweb.evaluation.report import ReportData
from lorweb.evaluation.report_judge import judge_counts, judge_name, outcome_names, preference_rows
from lorweb.evaluation.report_views import HEALTH, models_in
from lorweb.evaluation.results import CELLS
from lorweb.evaluation.verdicts import LEVEL, comparisons, show, verdicts

INTENDED: Final = """Editing an image b as an example pair (a, a') shows: for research on visual analogies, and for
edits like those that it was trained on. Not meant for images of people without their consent, for deception, or for any
use that the licences below rule out.
"""
USE: Final = """`MODEL` is the folder of `basis.safetensors`; commands take `models:/lorweb@champion` too.

    lorweb apply a.png a2.png b.png -o b2.png --model MODEL

```python
from PIL import Image

from lorweb import AnalogyPipeline

pipe = AnalogyPipeline.from_pretrained("MODEL")
a, a2, b = (Image.open(name) for name in ("a.png", "a2.png", "b.png"))
pipe(a, a2, b).images[0].save("b2.png")
```
"""
BAKE: Final = """
One analogy as a plain LoRA, for tools that know nothing of lorweb (`load_lora_weights` of diffusers, ComfyUI):

    lorweb bake a.png a2.png b.png -o edit.safetensors --model MODEL
"""


def render_card(card: CardData, data: ReportData) -> str:
    """The card as Markdown with YAML front matter."""
    parts = [
        f"---\n{front_matter(card, data)}\n---\n",
        "# Visual analogies by a learned basis of LoRAs\n",
        _what(card),
        "## Intended use\n",
        INTENDED,
        "## How to use\n",
        USE + ("" if data.mixes is None else BAKE),
        "## Training data\n",
        _training_data(card),
        "## Evaluation\n",
        _evaluation(data),
        "## Limits\n",
        _limits(card, data),
        "## Health of the basis\n",
        _health(data),
        "## Lineage\n",
        _table(["what", "value"], _lineage(card)),
    ]
    return "\n".join(parts)


def _what(card: CardData) -> str:
    basis, meta = card.basis, card.metadata
    asks = (
        "with what each layer sees"
        if basis["query_source"] == "internal"
        else f"with {encoder_name(meta.encoder)}, query mode {basis['query_mode']}"
    )
    return (
        f"Given a, a' and b it draws b' so that a : a' :: b : b'. {basis['n_loras']} LoRAs of rank {basis['rank']} in "
        f"every targeted layer of the frozen base `{base_name(meta.base)}` are mixed by a router that asks {asks} "
        f"({basis['activation']}, keys of {basis['key_dim']}). Trained at {meta.quadrant} px per image; "
        f"{meta.num_inference_steps} steps and guidance {meta.guidance_scale:g} by default.\n"
    )


def _training_data(card: CardData) -> str:
    pairs = card.pairs
    tasks = {kind: len({p.task for p in pairs if p.edit_type == kind}) for kind in {p.edit_type for p in pairs}}
    count = Counter(pair.edit_type for pair in pairs)
    bound = sorted({p.licence for p in pairs if "NC" in p.licence.upper().replace("_", "-").split("-")})
    words = (
        f"{len(pairs)} pairs (a, a') in {len({pair.task for pair in pairs})} tasks; an analogy is two pairs of one "
        "task with different subjects.\n"
    )
    if bound:
        words += f"\nLicences that rule out commercial use are among them: {', '.join(bound)}.\n"
    return "\n".join(
        [
            words,
            _table(["edit type", "tasks", "pairs"], [[kind, tasks[kind], count[kind]] for kind in sorted(count)]),
            _table(["licence of the source", "pairs"], _common(pair.licence for pair in pairs)),
            _table(["source", "pairs"], _common(pair.category for pair in pairs)),
            _table(["editor", "pairs"], _common(pair.editor for pair in pairs)),
        ]
    )


def _evaluation(data: ReportData) -> str:
    """Sentences of the two main cells, then the headline of every model in every main cell."""
    headline = described(data.headline)
    parts = [
        "Held-out analogies; means over tasks, in brackets the 95 % interval over resampled tasks, of two to four "
        "tasks Student's t. Better and worse are said where the interval leaves out 0 and the p value of a sign-flip "
        f"test is below {LEVEL}, which is not corrected for the {comparisons(data.paired, data.by_metric)} comparisons "
        "that were made. The evaluation's page (`index.html`) has all metrics, pictures and failures.\n"
    ]
    for cell, sentences in verdicts(data.metrics, data.paired, headline, data.by_metric):
        parts.append(f"**{cell}** ({CELLS[cell]}):\n\n" + "".join(f"- {sentence}\n" for sentence in sentences))
    cells = [cell for cell in data.metrics if cell in CELLS]
    way = {True: ", lower is better", False: ", higher is better", None: ""}[headline.lower_is_better]
    rows = []
    for model in models_in(data.metrics):
        found = [data.metrics[cell].get(model, {}).get(data.headline) for cell in cells]
        rows.append([model, *(f"{show(v['mean'])} [{show(v['low'])}, {show(v['high'])}]" if v else "" for v in found)])
    parts.append(_table([f"{data.headline}{way}", *cells], rows))
    return "\n".join([*parts, *_judge(data)])


def _judge(data: ReportData) -> list[str]:
    """Who judged, how many verdicts there are, and whom it prefers; nothing without a judge."""
    judge = judge_name(data.judge)
    if judge is None:
        return []
    told = ", ".join(f"{count} {name}" for name, count in judge_counts(data.judge).items())
    rows = []
    for row in preference_rows(data.judge):
        rate, wilson = row["win_rate"], row["wilson"]
        shown = [f"{rate['mean']:.3f}", f"{wilson[0]:.3f} to {wilson[1]:.3f}"] if rate and wilson else ["", ""]
        rows.append([row["cell"], row["rival"], *shown, *row["outcomes"].values()])
    head = ["cell", "lorweb against", "win rate", "95 % over comparisons", *outcome_names(data.judge)]
    return [f"Questions to the judge `{judge}`: {told}.\n", *([_table(head, rows)] if rows else [])]


def _limits(card: CardData, data: ReportData) -> str:
    lines = [
        "It does what its training tasks do; how far it goes beyond, the columns `unseen` and `unseen_edit` above say.",
        f"Images are seen and drawn at {card.metadata.quadrant} px a side; detail below that is the base's.",
        "It inherits the flaws and biases of its base and of the editors that made the training pairs.",
    ]
    if data.failures and data.failures.losses:
        total = data.failures.losses[-1]
        to = ", ".join(f"{count} to {rival}" for rival, count in total.to.items())
        lines.append(
            f"Of {total.analogies} test analogies on new subjects it loses {total.lost} by {data.headline} ({to})."
        )
        worst = sorted(data.failures.losses[:-1], key=lambda row: -row.lost / row.analogies)[:3]
        told = ", ".join(f"{row.edit_type} ({row.lost} of {row.analogies})" for row in worst if row.lost)
        if told:
            lines.append(f"Most often lost: {told}.")
    return "".join(f"- {line}\n" for line in lines)


def _health(data: ReportData) -> str:
    if data.mixes is None:
        return "Not measured: coefficients that change with layer and step have no one mix.\n"
    totals = data.mixes.health.summary()
    return _table(["what", "value", "meaning"], [[name, f"{totals[name]:.4g}", told] for name, told in HEALTH.items()])


def _lineage(card: CardData) -> list[list[str]]:
    meta = card.metadata
    data = meta.extra.get("data", {})
    rows = [
        ["weights (sha256)", card.weights_sha256],
        ["base", f"{base_name(meta.base)} {meta.base_revision}"],
        ["encoder", f"{encoder_name(meta.encoder)} {meta.encoder_revision}"],
        ["catalogue of edits (sha256)", str(meta.extra.get("catalogue_sha256", ""))],
        *([f"data/{name}", str(digest)] for name, digest in sorted(data.items())),
        ["evaluation set (sha256)", card.set_sha256],
        *([name, str(meta.extra.get(name, ""))] for name in ("steps", "seed")),
    ]
    return [row for row in rows if row[1].strip()]


def _common(values: Any) -> list[list[Any]]:
    """Values with their counts, the commonest first, equal ones by name."""
    return [[name, count] for name, count in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) for cell in line) + " |\n" for line in lines
    )
