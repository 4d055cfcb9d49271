"""README's tables of results, from the committed reports: `python -m tests.readme_results` writes them anew."""

import json
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
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


def rendered(metrics: dict[str, Any], paired: dict[str, Any]) -> str:
    """What the models reach and by how much they differ, as two Markdown tables."""
    heads = " | ".join(CELLS.values())
    lines = [f"| squared error to the true b′ | {heads} |", "|---" * (len(CELLS) + 1) + "|"]
    for model, name in MODELS.items():
        found = [metrics[cell][model][METRIC] for cell in CELLS]
        lines.append(
            f"| {name} | " + " | ".join("{mean:.4f} ({low:.3f}–{high:.3f})".format(**one) for one in found) + " |"
        )
    lines += ["", f"| on the same analogies | {heads} |", "|---" * (len(CELLS) + 1) + "|"]
    for difference, name in DIFFERENCES.items():
        found = [paired["paired"][difference][cell] for cell in CELLS]
        shown = ("{mean:+.4f} ({low:+.3f} to {high:+.3f})".format(**one) for one in found)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def committed() -> str:
    """The tables of the reports beside this code."""
    read = (
        json.loads((ROOT / "reports" / name).read_text(encoding="utf-8")) for name in ("metrics.json", "paired.json")
    )
    return rendered(*read)


def page_with(tables: str) -> str:
    """README with these tables between the marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    README.write_text(page_with(committed()), encoding="utf-8")
