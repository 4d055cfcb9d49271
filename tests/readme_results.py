"""Tables of results in README and the guide to baselines: `python -m tests.readme_results` writes them anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
GUIDE: Final = ROOT / "docs" / "training_baselines.md"
ALL: Final = ROOT / "benchmarks" / "results" / "baselines" / "reports.json"  # of a run with every baseline
BEGIN, END = "<!-- results -->", "<!-- /results -->"
METRIC: Final = "mse_to_truth"
CELLS: Final = {
    "seen": "trained tasks",
    "unseen": "held out: all",
    "unseen_value": "values",
    "unseen_composition": "compositions",
    "unseen_edit": "whole edits",
}
MODELS: Final = {
    "lorweb": "**basis + router (ours)**",
    "lorweb_shuffled": "ours, exemplar of another task",
    "single_lora": "single LoRA of rank N·r",
    "single_lora_shuffled": "single LoRA, exemplar of another task",
    "base": "base, no prompt",
    "base_prompt": "base, told the instruction",
    "copy": "b unchanged",
    "codec_truth": "the truth through the codec",
}
DIFFERENCES: Final = {
    "lorweb minus single_lora": "ours minus single LoRA",
    "lorweb minus base": "ours minus base",
    "lorweb minus copy": "ours minus unchanged b",
    "exemplar gap of lorweb (shuffled minus true)": "exemplar gap of ours",
    "exemplar gap of single_lora (shuffled minus true)": "exemplar gap of the single LoRA",
}


BASELINES: Final = {
    **{name: MODELS[name] for name in ("lorweb", "lorweb_shuffled", "single_lora")},
    "single_lora_equal": "single LoRA of as many values",
    "single_lora_equal_shuffled": "the same, exemplar of another task",
    "basis_constant": "basis without router",
    "basis_constant_shuffled": "the same, exemplar of another task",
    **{name: MODELS[name] for name in ("base", "base_prompt", "copy")},
}
AGAINST: Final = {
    f"lorweb minus {name}": f"ours minus {words}"
    for name, words in (
        ("single_lora", "single LoRA of rank N·r"),
        ("single_lora_equal", "single LoRA of as many values"),
        ("basis_constant", "basis without router"),
    )
}
Names = Mapping[str, str]


def rendered(reports: tuple[dict[str, Any], dict[str, Any]], models: Names = MODELS, less: Names = DIFFERENCES) -> str:
    """What the models reach and by how much they differ, as two Markdown tables of (metrics, paired)."""
    metrics, paired = reports
    heads = " | ".join(CELLS.values())
    lines = [f"| squared error to the true b′ | {heads} |", "|---" * (len(CELLS) + 1) + "|"]
    for model, name in models.items():
        found = [metrics[cell][model][METRIC] for cell in CELLS]
        lines.append(
            f"| {name} | " + " | ".join("{mean:.4f} ({low:.3f}–{high:.3f})".format(**one) for one in found) + " |"
        )
    lines += ["", f"| on the same analogies | {heads} |", "|---" * (len(CELLS) + 1) + "|"]
    for difference, name in less.items():
        found = [paired["paired"][difference][cell] for cell in CELLS]
        shown = ("{mean:+.4f} ({low:+.3f} to {high:+.3f})".format(**one) for one in found)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def committed() -> str:
    """The tables of the reports beside this code."""
    return rendered((read(ROOT / "reports" / "metrics.json"), read(ROOT / "reports" / "paired.json")))


def of_all_baselines() -> str:
    """The tables of the run with every baseline."""
    told = read(ALL)
    return rendered((told["metrics"], told["paired"]), BASELINES, AGAINST)


def page_with(tables: str, page: Path = README) -> str:
    """A page with these tables between the marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    README.write_text(page_with(committed()), encoding="utf-8")
    GUIDE.write_text(page_with(of_all_baselines(), GUIDE), encoding="utf-8")
