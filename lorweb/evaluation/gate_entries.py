"""Parameters of the gate (lorweb.evaluation.gate): a part of the promote section of lorweb.config. Without torch."""

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lorweb.config_errors import unknown_name
from lorweb.evaluation.glossary import GLOSSARY
from lorweb.sections import Once, Section, Share


def _distance(name: str) -> str:
    """A metric of which less is better: the gate would promote the worse model by any other."""
    known = [metric.name for metric in GLOSSARY.values() if metric.lower_is_better]
    if name not in GLOSSARY:
        raise ValueError(unknown_name("metric", name, known))
    if name not in known:
        what = "higher is better" if GLOSSARY[name].lower_is_better is False else "neither direction is better"
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"of '{name}' {what}, and the gate promotes the model with the lower value; did you mean '{near}'? "
            f"Lower is better of: {', '.join(known)}"
        )
    return name


class Healthy(Section):
    """Bounds of the basis' health on the test analogies (lorweb.basis.health); 0, 0, 0 and 1 ask nothing."""

    min_entropy: Share
    min_variation: Share
    min_update_variation: Share
    max_dead_atoms: Share


class Gate(Section):
    metric: Annotated[str, AfterValidator(_distance)]
    cells: Annotated[Once[str], Field(min_length=1)]
    margin_at: Literal["mean", "low"]
    min_margin: Annotated[float, Field(ge=0)]
    min_exemplar_gap: Annotated[float, Field(ge=0)]
    min_gain_over_copy: Annotated[float, Field(ge=0)]
    max_task_regression: Annotated[float, Field(ge=0)]
    max_regressed_tasks: Share
    health: Healthy | None
