"""A trace as a tree for people: the same facts as its JSON, lists cut to what one can read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lorweb.terminal import one_line

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

SHOWN: Final = 10  # sources and counts listed without --all
_HASH: Final = 64
_BIG: Final = ("inputs", "mixes", "versions", "parents", "pairs", "queries")  # facts that are lists themselves


def tree_of(told: Mapping[str, Any], everything: bool) -> "Tree":
    """The tree; with `everything` all sources are listed."""
    from rich.tree import Tree

    top = Tree(_line((told["asked"], "bold"), f" ({told['kind']})"), guide_style="dim")
    if told.get("facts"):
        _facts(top.add("says of itself"), told["facts"])
    if "record" in told:
        _record(top, told["record"])
    if told.get("model"):
        version = told["model"]["version"]
        name = f"{version['uri']} {' '.join(version['aliases'])}".strip() if version else told["model"]["folder"]
        _facts(top.add(_line(f"model {name}")), {k: v for k, v in told["model"].items() if k != "version"})
    if told.get("lineage"):
        lineage = dict(told["lineage"])
        outs = lineage.pop("dvc_outs", {})
        licences = lineage.pop("licences", {})
        branch = top.add("lineage")
        _facts(branch, lineage)
        _counts(branch, "licences of training pairs", licences if isinstance(licences, dict) else {})
        if isinstance(outs, dict) and outs:
            _facts(branch.add("DVC outs (md5)"), outs)
    data = told.get("data")
    if data:
        _data(top.add("data"), data)
    if told.get("sources"):
        _sources(top, told["sources"], everything)
    for name, colour in (("missing", "red"), ("notes", "yellow")):
        for sentence in told[name]:
            top.add(_line((name.rstrip("s"), colour), f" {sentence}"))
    return top


def _data(branch: "Tree", data: Mapping[str, Any]) -> None:
    for link in data["links"]:
        mark = ("same", "green") if link["holds"] else ("other", "red")
        branch.add(_line(f"{link['made']} <- {link['source']} {link['expected'][:16]} ", mark))
    training = data.get("training")
    if not training:
        return
    inner = branch.add(_line(f"trained on {training['pairs']} pairs of {training['tasks']} tasks"))
    _facts(inner, {key: training[key] for key in ("derived_pairs", "subjects")})
    for name in ("edit_types", "editors", "licences"):
        _counts(inner, name.replace("_", " "), training.get(name, {}))
    for name, span in training.get("scores", {}).items():
        inner.add(_line(f"{name}: mean {span['mean']:.4g}, {span['least']:.4g} to {span['most']:.4g}"))
    for check in training.get("checks", ()):
        kinds = f" of {', '.join(check['edit_types'])}" if check["edit_types"] else ""
        inner.add(_line(f"check {_check(check)}{kinds}"))


def _sources(top: "Tree", sources: Mapping[str, Any], everything: bool) -> None:
    branch = top.add(_line((f"{sources['count']} source images", "bold")))
    for name in ("licences", "origins", "categories"):
        _counts(branch, name, sources[name])
    rows = sources["list"] if everything else sources["list"][:SHOWN]
    for row in rows:
        branch.add(_line(f"{row['id']} {row['licence']}: {row['origin']} ({row['pairs']} pairs)"))
    if len(rows) < sources["count"]:
        branch.add(_line(f"... and {sources['count'] - len(rows)} more; --all or --json lists them"))


def _record(branch: "Tree", record: Mapping[str, Any]) -> None:
    """A record and those inside it; scores beside their bounds, and why it left."""
    plain = {k: v for k, v in record.items() if not isinstance(v, dict | list)}
    _facts(branch, plain)
    for check in record.get("checks", ()):
        mark = ("holds", "green") if check["holds"] else ("fails", "red")
        value = "not measured" if check["value"] is None else f"{check['value']:.4g}"
        branch.add(_line(f"{_check(check)}: {value} ", mark))
    for row in record.get("rejects", ()):
        branch.add(_line(("refused", "red"), f" by {row['stage']}, check {row['check']}: {row['reason']}"))
    if record.get("scores"):
        scores = (f"{name} {value:.4g}" for name, value in sorted(record["scores"].items()))
        branch.add(_line(f"scores {', '.join(scores)}"))
    for user in record.get("analogies", ()):
        branch.add(_line(f"{user['as']} of analogy {user['id']} ({user['split']})"))
    for name in ("exemplar", "query", "before_pair", "after_pair", "source", "pairs"):
        if isinstance(record.get(name), dict):
            title = _line((name.replace("_", " "), "bold"), f" {record[name].get('id', '')}")
            _record(branch.add(title), record[name])


def _check(check: Mapping[str, Any]) -> str:
    bounds = [f"{word} {check[side]:g}" for side, word in (("min", ">="), ("max", "<=")) if check[side] is not None]
    return f"{check['score']} {' and '.join(bounds)}"


def _facts(branch: "Tree", facts: Mapping[str, Any]) -> None:
    for name, value in facts.items():
        if name in _BIG and isinstance(value, dict):
            _facts(branch.add(_line(name)), value)
        elif isinstance(value, dict):
            inner = ", ".join(f"{key} {_short(item)}" for key, item in value.items())
            branch.add(_line(f"{name}: {inner}"))
        elif value not in ("", None, []):
            branch.add(_line(f"{name.replace('_', ' ')}: {_short(value)}"))


def _line(*parts: str | tuple[str, str]) -> "Text":
    """One line as it is, without markup or control codes: pictures and records are written by others.

    A part is text, or (text, style).
    """
    from rich.text import Text

    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(one_line(text), style)
    return line


def _short(value: Any) -> str:
    """Hashes cut to what tells them apart; the JSON has them whole."""
    text = str(value)
    return text[:16] if len(text) == _HASH and " " not in text else text


def _counts(branch: "Tree", name: str, counts: Mapping[str, int]) -> None:
    if not counts:
        return
    shown = [f"{key} {number}" for key, number in list(counts.items())[:SHOWN]]
    more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    branch.add(_line(f"{name}: {', '.join(shown)}{more}"))
