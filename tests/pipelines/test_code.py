"""The code that a worker's finished rows stand for: what it runs and nothing else, whatever is changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipelines._runner as engine
from lorweb.config import Pool
from lorweb.evaluation.judging import JudgeAnswers
from lorweb.evaluation.measuring import MeasureAnswers
from lorweb.evaluation.workers import DrawAnswers
from pipelines import collect, encode, filter, generate
from pipelines._code import CODE, ENGINE, PARAMETERS, ROOT, closure, packaged_data, worker_code, worker_files
from pipelines._collect_worker import ReadSources
from pipelines._encode_workers import EncodeImages
from pipelines._filter_worker import MODULES, REGISTRY, ScorePairs
from pipelines._generate_worker import REGISTRY as EDITORS
from pipelines._generate_worker import EditSources
from pipelines._rows import RowJob, in_process
from tests.pipelines.scorer_project import BRIGHT, EMBEDDED, eight_candidates, told, use

pytestmark = pytest.mark.slow

KINDS = ("embedded", "features", "clip", "dino", "lpips", "aesthetic", "classifier", "judge")
JOBS = {kind: (ScorePairs, {REGISTRY: f"lorweb/data/scorers/{MODULES.get(kind, f'{kind}.py')}"}) for kind in KINDS} | {
    "read": (ReadSources, {}),
    "edit": (EditSources, {EDITORS: ""}),
    "kontext": (EditSources, {EDITORS: "lorweb/data/editors/kontext.py"}),
    "images": (EncodeImages, {}),
    "draw": (DrawAnswers, {}),
    "measure": (MeasureAnswers, {}),
    "judge answers": (JudgeAnswers, {}),
}
SCORERS = set(KINDS)
NEW_RULE = """
_old = decide

def decide(cfg, evidence, places, scores):
    return {**_old(cfg, evidence, places, scores), min(scores): Rejected("new_rule", "the first is refused")}
"""


def copied(folder):
    """The project's code and data elsewhere; what is large is cut, since bytes alone count here."""
    for name in CODE:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes()[:100_000])
    return folder


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    root = copied(tmp_path_factory.mktemp("calm"))
    return {job: worker_code(worker, picked, root) for job, (worker, picked) in JOBS.items()}


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("lorweb/data/decide.py", set()),  # thresholds: nothing is measured again
        ("lorweb/data/filter.html", set()),
        ("lorweb/config.py", set()),
        ("pipelines/_rows.py", set()),  # its format has a number of its own
        ("lorweb/data/scores.py", {"embedded", "features", "clip", "dino", "aesthetic", "measure"}),
        ("lorweb/evaluation/metrics.py", {"measure"}),  # nothing is drawn again
        ("lorweb/evaluation/judge_prompts.py", {"judge answers"}),
        ("lorweb/data/scorers/lpips.py", {"lpips", "measure"}),
        ("lorweb/data/scorers/judge_reply.py", {"judge", "judge answers"}),
        ("lorweb/data/scorers/build.py", SCORERS),
        ("lorweb/data/editors/colour.py", {"edit", "kontext"}),
        ("lorweb/data/editors/kontext.py", {"kontext"}),
        ("lorweb/data/catalogue.yaml", {"edit", "kontext"}),
        ("lorweb/data/readers/photos.py", {"read"}),
        ("lorweb/tiny/kontext/vae/config.json", {"kontext", "images", "draw", "measure", "judge answers"}),
        ("lorweb/basis/encoder_weights/efficientnet-lite0+style.safetensors", None),
        ("lorweb/records.py", set(JOBS)),
    ],
)
def test_a_changed_file_makes_other_work_of_those_who_run_it(tmp_path, calm, file, jobs):
    root = copied(tmp_path)
    (root / file).write_bytes((root / file).read_bytes() + b"\n")
    found = {job for job, (worker, picked) in JOBS.items() if worker_code(worker, picked, root) != calm[job]}
    assert found == jobs if jobs is not None else found >= {"features", "images"} and "embedded" not in found


def test_a_new_import_brings_its_file_in(tmp_path, calm):
    root = copied(tmp_path)
    page = root / "lorweb/data/scorers/lpips.py"
    page.write_text(page.read_text() + "\ndef _late():\n    from ..decide import decide\n    return decide\n")
    files = worker_files("pipelines/_filter_worker.py", JOBS["lpips"][1], root)
    assert root / "lorweb/data/decide.py" in files and root / "lorweb/data/directions.py" in files
    (root / "lorweb/data/late.py").write_text("import importlib\nimportlib.import_module('lorweb.data.dedup')\n")
    found = {path.name for path in closure([root / "lorweb/data/late.py"], root)}
    assert found >= {"late.py", "dedup.py"}


def test_other_code_columns_or_format_are_another_journal(monkeypatch):
    pool = Pool(actors=1, cpus=1, gpus=0, batch_size=1)

    def name(schema=collect.SOURCE, worker=ReadSources):
        return RowJob("collect", "read", worker, (), (1,), schema, pool, 1.0).journal.folder

    names = [name(), name(schema=collect.GIVEN), name(worker=EncodeImages)]
    monkeypatch.setattr(engine, "FORMAT", engine.FORMAT + 1)
    assert len({*names, name()}) == 4


def test_the_format_is_the_one_that_its_number_stands_for():
    """If this fails, rows are kept under other keys or columns than before: raise `_journal.FORMAT`."""
    journal = RowJob("collect", "read", ReadSources, (), (), collect.READ, None, 1.0).journal
    assert engine.row_key({"id": "a", "at": [1], "value": 1.5}) == "5ca9488cb968d7be" and engine.FORMAT == 1
    assert journal.schema.names[:3] == ["key", "refused", "id"] and journal.path("x").name == "rows-x.arrow"


def traced(seen):
    """An executor that notes, for each job, in which files of the project functions ran while its worker worked."""

    def execute(job, batches):
        items = [item for number in range(len(batches)) for item in json.loads(batches[number])][:8]
        job.worker(*job.arguments)(items)  # imports are done now: they run functions too
        files = set()

        def note(frame, event, arg):
            if event == "call" and frame.f_code.co_flags & 1:  # CO_OPTIMIZED: a function, no module and no class body
                files.add(frame.f_code.co_filename)

        sys.setprofile(note)
        try:
            job.worker(*job.arguments)(items)
        finally:
            sys.setprofile(None)
        ran = {Path(name) for name in files if any(Path(name).is_relative_to(ROOT / part) for part in (*CODE, "tests"))}
        allowed = worker_files(sys.modules[job.worker.__module__].__file__, job.picked) | {
            ROOT / name for name in (*ENGINE, *PARAMETERS)
        }
        seen[job.function] = (len(ran), sorted(str(path) for path in ran - allowed - {Path(__file__)}))
        return in_process(job, batches)

    return execute


def test_what_workers_run_is_all_in_their_code(project, encoded, monkeypatch):
    seen = {}
    shutil.rmtree(".work")
    collect.main(traced(seen))
    generate.main(traced(seen))
    eight_candidates(project)
    (project / "netted.py").write_text(
        "from lorweb.data.scores import SafetyNet\nfrom lorweb.data.scorers import Scored\n"
        "class Netted:\n    name, revision, keys = 'netted', '1', ('own',)\n"
        "    def __init__(self, options): self.net = SafetyNet()\n"
        "    def __call__(self, pairs):\n"
        "        return [Scored({'own': float(x)}) for x in self.net([p.after for p in pairs]).nsfw]\n"
    )
    features = {"scorer": "features", "name": "effnet", "encoder": "efficientnet-lite0+style", "pool": EMBEDDED["pool"]}
    use(project, EMBEDDED, features, {**BRIGHT, "class": "netted:Netted", "options": {}})
    filter.main(traced(seen))
    monkeypatch.chdir(shutil.copytree(encoded, project.parent / "encoded"))
    shutil.rmtree(".work/encode", ignore_errors=True)
    encode.main(traced(seen))
    assert {"read", "score_embedded", "score_features_effnet", "score_netted", "images", "texts"} < set(seen)
    assert not {job: more for job, (_, more) in seen.items() if more}
    assert all(ran > 2 for ran, _ in seen.values()), seen  # the tracer saw something of each


@pytest.mark.slow
def test_a_changed_threshold_in_the_code_measures_nothing_again(project, tmp_path):
    """The whole stage, on a copy of the code that changes between runs."""
    eight_candidates(project)
    use(project, EMBEDDED)
    tree = tmp_path / "tree"
    for name in CODE:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))

    def scored():
        code = "from pipelines import filter, _rows; filter.main(_rows.in_process); print(filter.__file__)"
        where = {**os.environ, "PYTHONPATH": str(tree)}
        done = subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True, check=False)
        assert str(tree) in done.stdout, done.stderr
        return json.loads(Path("metrics/filter.json").read_text())["functions"]["score_embedded"]["rows"]

    assert scored() == 8 and len(told(project)[0]) == 8
    page = tree / "lorweb/data/decide.py"
    page.write_text(page.read_text() + NEW_RULE)
    assert scored() == 0 and [row["check"] for row in told(project)[1]] == ["new_rule"]
    page = tree / "pipelines/_journal.py"
    page.write_text(page.read_text().replace("FORMAT: Final = 1", "FORMAT: Final = 2"))
    assert scored() == 8 and [row["check"] for row in told(project)[1]] == ["new_rule"]


def test_packaged_data_are_those_that_code_names(tmp_path):
    package = tmp_path / "lorweb"
    (package / "weights").mkdir(parents=True)
    for name in ("__init__.py", "weights/a.bin", "page.html", "other.html"):
        (package / name).write_text("")
    (package / "one.py").write_text("'weights/a.bin'")
    (package / "two.py").write_text("'page.html'")
    found = [packaged_data([package / name], tmp_path) for name in ("one.py", "two.py", "__init__.py")]
    assert found == [{package / "weights/a.bin"}, {package / "page.html"}, set()]
