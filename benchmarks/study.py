"""What training settings are worth on held-out tasks, measured against the true b', over seeds, with intervals.

python benchmarks/study.py [--only NAME ...] [--seeds 0 1 2] [--split test] [--published] [--json FILE] [--into FILE]

Run it in a project that has been encoded. Each setting of benchmarks/study.yaml (some of the parameters, changed) is
trained with each seed and variant in this process, one after the other; then b' of every analogy of the split is drawn
and measured by the functions of the evaluate stage. What is finished is not done again: a killed run goes on, and
another list of settings or seeds adds to what is there (.work/study). Choose settings on the validation split, and look
at the test split for the final comparison alone.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import _report
import yaml
from _study_answers import Asked, answer
from _study_numbers import Arm, arm_of, difference, means, table
from _study_train import Setting, Trained, prepare, train_once
from _table import publish

from lorweb.config import load_params
from lorweb.config_errors import unknown_name
from lorweb.data.manifest import fingerprint
from lorweb.evaluation.results import HEADLINE, Measured
from lorweb.kontext.metadata import read_metadata

FOLDER = Path(__file__).parent
VARIANTS = ("lorweb", "single_lora", "single_lora_equal", "basis_constant")
BOOTSTRAP = 2000
HIDDEN = ("project", "settings", "into", "marks")  # options that do not decide what is measured, but where


def read_settings(path: Path, only: Sequence[str]) -> list[Setting]:
    """The settings of a file, or those that are named. Raises ValueError for a name that it does not have."""
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in only:
        if name not in given:
            raise ValueError(f"{path}: {unknown_name('setting', name, given)}")
    return [Setting.parse(name, given[name]) for name in only or given]


def published(folder: Path, project: Path, variant: str) -> Trained:
    """What the train stage has left in models/, in the place of a training with the project's own seed.

    Raises:
        ValueError: it was trained on other data than data/ holds, or there is none.
    """
    where = project / ("models/candidate" if variant == "lorweb" else f"models/baselines/{variant}")
    if not where.is_dir():
        raise ValueError(f"no {where}; leave --published out, and it is trained")
    metadata = read_metadata(where)
    found = {name: fingerprint(folder / "data" / name) for name in ("encoded", "analogies")}
    if metadata.extra["data"] != found:
        raise ValueError(f"{where} was trained on other data than {project / 'data'} holds; leave --published out")
    return Trained(where.resolve(), {"steps": metadata.extra["steps"], "validation": metadata.extra["validation"]})


def run_setting(setting: Setting, given: argparse.Namespace) -> tuple[list[list[Measured]], list[dict[str, Any]]]:
    """Answers of each seed, and what was trained for them."""
    project = given.project.resolve()
    folder = prepare(setting, project, project / ".work" / "study")
    own_seed = load_params(folder / "params.yaml").seed
    measured, trainings = [], []
    for seed in given.seeds:
        trained = {}
        for variant in given.variants:
            stored = given.published and seed == own_seed and not setting.changes and setting.tasks == 1
            trained[variant] = (
                published(folder, project, variant) if stored else train_once(setting, folder, variant, seed)
            )
            facts = {"setting": setting.name, "variant": variant, "seed": seed, **trained[variant].facts}
            trainings.append({"kind": "training", "published": stored, **facts})
        models = [model for variant in given.variants for model in models_of(variant, given.shuffled)]
        weights = {variant: found.weights for variant, found in trained.items()}
        measured.append(answer(folder, Asked(models, given.split, weights)))
        told = arm_of(setting.name, given.variants[0], measured[-1:], HEADLINE)
        print(f"{setting.name} seed {seed}: {table([means(told, BOOTSTRAP)]).splitlines()[-1]}", flush=True)
    return measured, trainings


def models_of(variant: str, shuffled: bool) -> list[str]:
    """A variant with the true exemplar, and with another task's."""
    return [variant, f"{variant}_shuffled"] if shuffled else [variant]


def study(settings: Sequence[Setting], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the result: trainings, then means and paired differences of each setting for each metric."""
    project = given.project.resolve()
    first = prepare(settings[0], project, project / ".work" / "study")
    plain = answer(first, Asked(given.rivals, given.split, {})) if given.rivals else []
    measured, trainings = {}, []
    for setting in settings:
        measured[setting.name], more = run_setting(setting, given)
        trainings += more
    rows = []
    for metric in given.metrics:
        rivals = [arm_of("", name, [plain], metric) for name in given.rivals]
        arms = {
            name: {model: arm_of(name, model, found, metric) for model in found[0][0].scores}
            for name, found in measured.items()
        }
        rows += [{"metric": metric, **row} for row in compared(arms, rivals)]
    return trainings + rows


def compared(arms: Mapping[str, Mapping[str, Arm]], rivals: Sequence[Arm]) -> list[dict[str, Any]]:
    """Means of all; each setting's first model minus its other models, the rivals, and the first setting's."""
    shown = [{"kind": "mean", **means(arm, BOOTSTRAP)} for found in arms.values() for arm in found.values()]
    shown += [{"kind": "mean", **means(arm, BOOTSTRAP)} for arm in rivals]
    reference = next(iter(next(iter(arms.values())).values()))
    for found in arms.values():
        ours, *others = found.values()
        others += rivals if ours.setting == reference.setting else [reference]
        shown += [{"kind": "difference", **difference(ours, other, BOOTSTRAP)} for other in others]
    return shown


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Tables of each metric: means, then differences, then where they come from."""
    parts = []
    for metric in dict.fromkeys(row["metric"] for row in rows if row["kind"] != "training"):
        for kind in ("mean", "difference"):
            found = [row for row in rows if row["kind"] == kind and row["metric"] == metric]
            parts += [f"{metric}, {kind}:", table(found)] if found else []
    trained = [row for row in rows if row["kind"] == "training"]
    steps = sorted({row["steps"] for row in trained})
    parts.append(
        f"{len(trained)} trainings of {', '.join(map(str, steps))} steps; {rows[0]['split']} split. "
        f"Measured by `{rows[0]['command']}` on {rows[0]['machine']}"
    )
    return "\n\n".join(parts)


def options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.set_defaults(script="study.py")
    made.add_argument("--project", type=Path, default=Path(), help="a folder with params.yaml and data/")
    made.add_argument("--settings", type=Path, default=FOLDER / "study.yaml", help="YAML: {name: changed parameters}")
    made.add_argument("--only", nargs="+", default=[], help="settings of the file; the first one is the reference")
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    made.add_argument("--variants", choices=VARIANTS, nargs="+", default=["lorweb"], help="trained alike")
    made.add_argument("--rivals", nargs="+", default=[], help="models that are not trained: base, base_prompt, copy")
    made.add_argument("--shuffled", action="store_true", help="with another task's exemplar as well")
    made.add_argument("--split", choices=("val", "test"), default="val")
    made.add_argument("--metrics", nargs="+", default=[HEADLINE], help="of lorweb.evaluation.metrics")
    made.add_argument("--published", action="store_true", help="do not train what models/ holds")
    made.add_argument("--json", type=Path, help="write the results there")
    made.add_argument("--into", type=Path, help="a Markdown file with the marks, for the tables")
    made.add_argument("--marks", default="study", help="their name: <!-- NAME -->, <!-- /NAME -->")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    given = options().parse_args(argv)
    rows = study(read_settings(given.settings, given.only), given)
    shown = argparse.Namespace(**{k: v for k, v in vars(given).items() if k not in HIDDEN})
    told = {"split": given.split, "machine": _report.machine(), "command": _report.command(shown)}
    rows = json.loads(json.dumps([{**row, **told} for row in rows]))
    publish(rows, markdown(rows), given, (f"<!-- {given.marks} -->", f"<!-- /{given.marks} -->"))


if __name__ == "__main__":
    main()
