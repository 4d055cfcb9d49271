"""The rules of the tree, held by tests: arrows point one way, names agree everywhere, modules stay small.

Everything is read from source text (`ast`, YAML), so that a rule holds for code that no other test imports.
"""

import ast
import re
from pathlib import Path

import yaml

from pipelines._code import ENGINE, PARAMETERS, closure, data_entries, packaged_data

ROOT = Path(__file__).parent.parent
STAGES = ["collect", "generate", "filter", "assemble", "encode", "train", "evaluate", "promote"]
FRAMEWORKS = {"ray", "mlflow", "dvc", "gradio"}
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imports(path: Path) -> set[str]:
    """Top-level names of the packages that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def python_files(*folders: str) -> list[Path]:
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert len(files) > 5, f"only {len(files)} files in {folders}: the scan looks at the wrong place"
    return files


def test_the_library_imports_no_framework_but_in_serving():
    offenders = {
        str(path.relative_to(ROOT)): sorted(imports(path) & FRAMEWORKS)
        for path in python_files("lorweb")
        if "serving" not in path.parts and imports(path) & FRAMEWORKS
    }
    assert not offenders


def test_serving_imports_its_frameworks_lazily():
    top_level = {
        str(path): {
            name.split(".")[0]
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        & FRAMEWORKS
        for path in (ROOT / "lorweb/serving").rglob("*.py")
    }
    assert top_level, "no file in lorweb/serving"
    assert not {path: names for path, names in top_level.items() if names}


def test_the_library_never_imports_the_pipelines():
    assert not [
        path for path in python_files("lorweb") if imports(path) & {"pipelines", "cluster", "tests", "benchmarks"}
    ]


def test_a_stage_is_one_name_everywhere():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    modules = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py"))
    assert list(DVC) == STAGES
    assert [name for name in params if name not in ("seed", "storage")] == STAGES
    assert set(STAGES) <= set(modules)
    assert all(DVC[stage]["cmd"] == f"python -m pipelines.{stage}" for stage in STAGES)


def params_read(stage: str) -> set[str]:
    """What a stage's module reads from `params`: its own section whole, leaves of foreign ones by dotted name."""
    source = (ROOT / "pipelines" / f"{stage}.py").read_text()
    chains = set(re.findall(r"\bparams\.(?!yaml)([a-z_]+(?:\.[a-z_0-9]+)*)", source))
    own = {stage if chain.split(".")[0] == stage else ".".join(chain.split(".")[:2]) for chain in chains}
    assert own, f"no `params.` access found in pipelines/{stage}.py: the scan is blind"
    return own


def test_every_stage_lists_exactly_the_params_it_reads():
    listed = {stage: set(DVC[stage].get("params", [])) for stage in STAGES}
    read = {stage: params_read(stage) for stage in STAGES}
    assert read == listed


def test_every_dependency_of_a_stage_exists_or_is_made_by_a_stage():
    made = {out if isinstance(out, str) else next(iter(out)) for stage in DVC.values() for out in stage.get("outs", [])}
    made |= {next(iter(metric)) for stage in DVC.values() for metric in stage.get("metrics", [])}
    made |= {next(iter(plot)) for stage in DVC.values() for plot in stage.get("plots", [])}
    deps = [dep for stage in DVC.values() for dep in stage["deps"]]
    assert len(deps) > 20
    assert not [dep for dep in deps if dep not in made and not (ROOT / dep).exists()]


# Reached by every stage, and no dependency of any: they carry rows, types and progress, and decide no value in an out.
PLUMBING = [*ENGINE, *PARAMETERS, "lorweb/records.py", "lorweb/serving/tracking.py", "lorweb/hub.py"]
PLUMBING += ["lorweb/serving/reachable.py", "lorweb/serving/moved.py", "lorweb/serving/address.py"]
PLUMBING += ["lorweb/storage"]
PLUMBING += [f"lorweb/data/{name}.py" for name in ("manifest", "shards", "rejects", "catalogue_rules")]
PLUMBING += [
    "lorweb/data/readers",
    "lorweb/data/avatars.py",
    "lorweb/data/icons.py",
    "lorweb/data/plugins.py",
]  # types of the params section; collect lists them
PLUMBING += ["lorweb/evaluation/glossary.py"]  # checks what the gate may name; evaluate lists it
PLUMBING += [
    f"pipelines/_train_{name}.py"
    for name in ("backend", "depot", "driver", "homes", "log", "notes", "plan", "resume", "stop", "told")
]
PLUMBING += ["pipelines/_node.py"]
# In assemble and train edits and readers are names; elsewhere a check is the form of a reject.
NAMES_ONLY = {
    "assemble": ["lorweb/data/catalogue.py", "lorweb/data/editors", "lorweb/data/decode.py"],
    "train": ["lorweb/data/decode.py"],
} | {stage: ["lorweb/data/checks.py"] for stage in ("collect", "generate", "encode", "evaluate")}


def reached_from(path: Path) -> set[Path]:
    """Our own files that a file imports, and what these import, all the way; packages only gather names."""
    return {file.relative_to(ROOT) for file in closure([path]) if file.name != "__init__.py"}


def test_every_stage_depends_on_the_code_that_decides_its_outs():
    """Promote is left out: it always runs."""
    missing = {}
    for stage in STAGES[:-1]:
        reached = reached_from(ROOT / "pipelines" / f"{stage}.py")
        assert len(reached) > 10, f"{stage}: the scan of imports is blind"
        listed = [Path(dep) for dep in [*DVC[stage]["deps"], *PLUMBING, *NAMES_ONLY.get(stage, [])]]
        missing[stage] = sorted(
            str(file) for file in reached if not any(dep == file or dep in file.parents for dep in listed)
        )
    assert not any(missing.values()), {stage: files for stage, files in missing.items() if files}


def test_packages_do_nothing_but_gather_names():
    """So that a worker's code does not depend on the packages that its modules only lie in (pipelines/_code.py)."""
    harmless = ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.If
    inits = [path for path in python_files("lorweb", "pipelines") if path.name == "__init__.py"]
    assert len(inits) > 8
    for path in inits:
        first, *rest = ast.parse(path.read_text()).body
        assert isinstance(first, ast.Expr) and all(isinstance(node, harmless) for node in rest), path
        assert not [node for node in rest if isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING"]


def test_every_packaged_file_is_named_by_code():
    """A name that is put together at run time would hide data from the code that depends on it."""
    entries = list(data_entries())
    assert len(entries) > 5
    named = packaged_data(python_files("lorweb", "pipelines"))
    assert not [entry for entry in entries if not named & {entry, *entry.rglob("*")}]


def test_modules_are_small():
    limit, hard = 200, 300
    large = {
        str(path.relative_to(ROOT)): lines
        for path in python_files("lorweb", "pipelines", "cluster")
        if (lines := len(path.read_text().splitlines())) > limit
    }
    assert not {path: n for path, n in large.items() if n > hard}
    unexplained = [path for path in large if "lines:" not in (ROOT / path).read_text().splitlines()[0].lower()]
    assert not unexplained, f"over {limit} lines without a first line that says why (`# Lines: ...`): {unexplained}"


def test_functions_are_small():
    long = []
    for path in python_files("lorweb", "pipelines", "cluster"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60:
                long.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert not long


def test_nothing_is_unpickled():
    banned = re.compile(r"\b(pickle\.loads?|torch\.load\((?!.*weights_only=True)|joblib\.load)")
    assert not [path for path in python_files("lorweb", "pipelines", "cluster") if banned.search(path.read_text())]


def test_no_generic_module_names():
    names = {path.stem for path in python_files("lorweb", "pipelines")}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def public_without_docstring(path: Path) -> list[str]:
    """Public classes, functions and methods (calls included) of a file that promise nothing."""
    found: list[str] = []
    todo = [(node, "") for node in ast.parse(path.read_text()).body]
    while todo:
        node, prefix = todo.pop()
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        if node.name.startswith("_") and node.name != "__call__":
            continue
        if ast.get_docstring(node) is None:
            found.append(f"{path.relative_to(ROOT)}:{prefix}{node.name}")
        if isinstance(node, ast.ClassDef):
            todo += [(child, f"{node.name}.") for child in node.body]
    return found


def test_every_public_name_of_the_method_has_a_docstring():
    files = python_files("lorweb/basis", "lorweb/kontext")
    assert len(files) > 30
    assert not [name for path in files for name in public_without_docstring(path)]
