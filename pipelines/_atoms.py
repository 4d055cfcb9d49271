"""The atom gallery of the report: drawn by the row engine, so that a killed run goes on where it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorweb.data.manifest import file_sha256
from lorweb.data.shards import RowReader
from lorweb.evaluation.atoms import ATOM, ATOMS_VERSION, NO_ATOM, AtomGallery, DrawAtoms, Subject, atom_items
from lorweb.evaluation.entries import Atoms
from lorweb.evaluation.models import CANDIDATE
from lorweb.evaluation.pictures import png_bytes
from lorweb.evaluation.workers import decode_quadrant
from lorweb.records import PAIR, stable_id
from pipelines._rows import RowJob, run_rows
from pipelines._stage import seed_of

if TYPE_CHECKING:
    from pipelines._answers import Plan


def draw_gallery(plan: "Plan", asked: Atoms, use_N: Sequence[float]) -> AtomGallery:
    """The `asked.loras` most used atoms (`use_N`: share of each) on some b of the test analogies.

    Raises:
        StageFailed: an image could not be drawn.
    """
    subjects = choose_subjects(plan, asked.queries)
    atoms = sorted(range(len(use_N)), key=lambda n: (-use_N[n], n))[: asked.loras]
    job = RowJob(
        stage=plan.work,
        function="atoms",
        worker=DrawAtoms,
        arguments=(plan.sources.encoded, plan.sources.weights[CANDIDATE], plan.settings),
        identity=(ATOMS_VERSION, plan.settings, file_sha256(plan.sources.encoded / "_manifest.json")),
        schema=ATOM,
        pool=plan.cfg.pool,
        max_error_rate=0.0,  # a gallery with holes would be read as atoms that do nothing
        reads=plan.sources.reads(CANDIDATE),
    )
    items = atom_items(subjects, atoms, asked.strengths, plan.weights[CANDIDATE])
    rows = run_rows(job, items, plan.execute).index(ATOM.names)
    place = {subject.analogy: number for number, subject in enumerate(subjects)}
    images = {(row["atom"], place[row["analogy"]], row["strength"]): row["image"] for row in rows}
    befores = [_before(plan, subject) for subject in subjects]
    return AtomGallery(
        asked.strengths,
        [(befores[number], images[NO_ATOM, number, 0.0]) for number in range(len(subjects))],
        [(atom, use_N[atom]) for atom in atoms],
        images,
    )


def choose_subjects(plan: "Plan", count: int) -> list[Subject]:
    """Queries of test analogies in an order that only their ids decide, each kind of subject in turn."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(plan.analogies, key=lambda row: stable_id("atoms", row["id"])):
        kind = str(plan.pairs[row["query"]]["category"]).partition(":")[0]
        found.setdefault(kind, []).append(dict(row))
    turns = [row for turn in range(count) for kind in sorted(found) for row in found[kind][turn : turn + 1]]
    return [
        Subject(row["id"], row["exemplar"], row["query"], seed_of("evaluate", plan.seed, row["id"]))
        for row in turns[:count]
    ]


def _before(plan: "Plan", subject: Subject) -> bytes:
    reader = RowReader(Path(plan.sources.pairs), PAIR, ["before"])
    return png_bytes(decode_quadrant(reader(plan.pairs[subject.query]["at"])["before"], plan.sources.size()))
