"""Each LoRA alone: drawn as the basis would draw with all others taken out, once, and again only for other weights."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lorweb.basis import basis_layers
from lorweb.config import load_params
from lorweb.evaluation.atoms import NO_ATOM, DrawAtoms, atom_items
from lorweb.evaluation.painter import Painter, Question
from lorweb.training.dataset import Encoded
from pipelines import evaluate
from pipelines._answers import make_plan
from pipelines._atoms import choose_subjects, draw_gallery
from pipelines._rows import Runner, in_process
from tests.pipelines.evaluated import make_project, pixels

pytestmark = pytest.mark.slow

MODELS = ("lorweb", "lorweb_identity", "base", "copy")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(root)
    try:
        make_project(root, MODELS)
    finally:
        os.chdir(before)
    return root


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project)


def the_plan():
    params = load_params()
    plan = make_plan(params.evaluate, params.seed, params.encode.base, params.encode.quadrant)
    return replace(plan, execute=in_process)


def drawn(plan, atoms, strengths, change=None):
    """{(atom, strength): pixels} of the first subject; `change` is done to the loaded transformer before."""
    worker = DrawAtoms(plan.sources.encoded, plan.sources.weights["candidate"], plan.settings)
    if change is not None:
        with torch.no_grad():
            change(worker.base.transformer)
    rows = worker(atom_items(choose_subjects(plan, 1), atoms, strengths, "w"))
    return {(row["atom"], row["strength"]): pixels(row["image"]) for row in rows}


def test_an_atom_alone_is_the_basis_with_all_others_taken_out():
    """The oracle zeroes B of the other atoms and asks for another mix, in which they have their say too."""
    plan = the_plan()

    def only_the_second(transformer):
        for layer in basis_layers(transformer).values():
            layer.B.view(len(layer.B), -1, layer.rank)[:, [0, 2]] = 0.0
            layer.B.mul_(2.0)

    found, oracle = drawn(plan, [1], [2.0]), drawn(plan, [1], [1.0], only_the_second)
    assert np.array_equal(found[1, 2.0], oracle[1, 1.0])
    others = drawn(plan, [0], [2.0], only_the_second)
    assert np.array_equal(others[0, 2.0], others[NO_ATOM, 0.0])
    assert not np.array_equal(found[1, 2.0], found[NO_ATOM, 0.0])


def test_no_atom_is_the_bare_base_that_sees_no_edit():
    plan = the_plan()
    (subject,) = choose_subjects(plan, 1)
    encoded = Encoded.load(plan.sources.encoded)
    a = encoded.pairs[subject.exemplar]
    encoded.pairs[subject.exemplar] = (a[0], a[0])
    painter = Painter(encoded, plan.sources.weights, plan.settings)
    (answer,) = painter("base", [Question(subject.exemplar, subject.query, "", subject.seed)])
    assert np.array_equal(drawn(plan, [], [])[NO_ATOM, 0.0], np.asarray(answer.image))


def test_the_gallery_shows_the_most_used_and_is_drawn_once(monkeypatch):
    plan, asked = the_plan(), load_params().evaluate.atoms
    gallery = draw_gallery(plan, asked, [0.2, 0.5, 0.3])
    assert [atom for atom, _ in gallery.atoms] == [1, 2] and len(gallery.subjects) == 1
    assert set(gallery.images) == {(NO_ATOM, 0, 0.0), *((atom, 0, s) for atom in (1, 2) for s in asked.strengths)}
    assert len(set(gallery.images.values())) == len(gallery.images)
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "__init__", lambda *_: pytest.fail("drawn again"))
        assert draw_gallery(plan, asked, [0.2, 0.5, 0.3]) == gallery
    other = replace(plan, weights={**plan.weights, "candidate": "0" * 64})
    made = []
    first = Runner.__init__
    monkeypatch.setattr(Runner, "__init__", lambda *given: (made.append(1), first(*given))[1])
    assert draw_gallery(other, asked, [0.2, 0.5, 0.3]).images == gallery.images and made


def test_subjects_are_of_each_kind_in_turn():
    plan = the_plan()
    found = choose_subjects(plan, 3)
    kinds = [plan.pairs[subject.query]["category"].partition(":")[0] for subject in found]
    assert kinds[:2] == ["avatar", "photo"] and len({subject.analogy for subject in found}) == 3
    assert choose_subjects(replace(plan, analogies=plan.analogies[::-1]), 3) == found
    assert len(choose_subjects(plan, 1000)) == len(plan.analogies)


def test_null_draws_none_and_the_page_does_not_speak_of_them():
    params = yaml.safe_load(Path("params.yaml").read_text())
    before = Path("params.yaml").read_text()
    params["evaluate"]["atoms"] = None
    Path("params.yaml").write_text(yaml.safe_dump(params))
    try:
        evaluate.main(in_process)
        assert 'id="atoms"' not in Path("reports/index.html").read_text()
    finally:
        Path("params.yaml").write_text(before)
    evaluate.main(in_process)
    page = Path("reports/index.html").read_text()
    assert 'id="atoms"' in page and page.count("at strength") >= 4
