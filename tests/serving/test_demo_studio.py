"""The demo's drawing without a browser: streamed, blended, interrupted, and taken home as files."""

import json
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from lorweb.basis.files import read_safetensors
from lorweb.basis.mix_files import load_mix
from lorweb.reproduce import Given, reproduce
from lorweb.serving.demo_files import Desk
from lorweb.serving.demo_host import Host, Visitor
from lorweb.serving.demo_studio import Drawn, Forming, Question, Studio
from tests.kontext.made import INTERNAL, same
from tests.serving.demo_server import IMAGES, LIMITS, form_of, made_tasks

A, A2, B, C, C2 = IMAGES.values()


@pytest.fixture(scope="module")
def pipe(loaded):
    return loaded[0]


def ask(first=(A, A2), b=B, **more) -> Question:
    return Question(first, b, **{"prompt": "", "seed": 3, "strength": 1.0, **more})


def drawn(studio: Studio, question: Question) -> Drawn:
    *forming, last = studio.draw(question)
    assert all(isinstance(found, Forming) for found in forming) and isinstance(last, Drawn)
    done = [found.done for found in forming]
    assert done == sorted(set(done)) and set(done) <= set(range(1, studio.pipe.steps + 1))
    return last


def test_the_answer_is_the_pipelines_and_its_mix_is_too(pipe):
    found = drawn(Studio(pipe), ask())
    assert same(found.image, pipe(A, A2, B, seed=3).images[0]) and found.image.size == B.size
    torch.testing.assert_close(found.mix_LN, pipe.mix(A, A2, B), atol=0, rtol=0)


def test_at_strength_0_it_is_the_bases_answer(pipe):
    base = pipe(A, A2, B, seed=3, mix=torch.zeros_like(pipe.mix(A, A2, B))).images[0]
    assert same(drawn(Studio(pipe), ask(strength=0.0)).image, base, by=1)
    assert not same(drawn(Studio(pipe), ask()).image, base, by=3)


def test_two_exemplars_at_0_and_1_are_each_alone_and_between_them_the_mix_is(pipe):
    studio = Studio(pipe)
    alone = [drawn(studio, ask()), drawn(studio, ask((C, C2)))]
    blend = {t: drawn(studio, ask(second=(C, C2), t=t)) for t in (0.0, 0.25, 1.0)}
    assert same(blend[0.0].image, alone[0].image) and same(blend[1.0].image, alone[1].image)
    assert not same(alone[0].image, alone[1].image, by=3)
    expected = 0.75 * alone[0].mix_LN + 0.25 * alone[1].mix_LN
    torch.testing.assert_close(blend[0.25].mix_LN, expected, atol=1e-6, rtol=1e-6)


def test_who_leaves_in_the_middle_stops_the_run_and_the_next_answer_is_whole(pipe):
    studio = Studio(pipe)
    before = threading.active_count()
    run = studio.draw(ask(b=C))
    assert len(list(islice(run, 1))) == 1
    run.close()
    assert same(drawn(studio, ask()).image, pipe(A, A2, B, seed=3).images[0])
    assert not studio.free.locked() and threading.active_count() <= before


def test_two_visitors_at_once_get_their_own_answers(pipe):
    studio, found = Studio(pipe), {}

    def visit(name: str, question: Question) -> None:
        found[name] = drawn(studio, question).image

    visitors = [threading.Thread(target=visit, args=(n, ask((A, A2), IMAGES[n]))) for n in ("b", "c")]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert same(found["b"], pipe(A, A2, B, seed=3).images[0]) and same(found["c"], pipe(A, A2, C, seed=3).images[0])


def test_what_cannot_be_drawn_is_said_and_the_studio_is_free_again(pipe):
    studio = Studio(pipe)
    with pytest.raises(ValueError, match="their aspects differ"):
        list(studio.draw(ask((A, A2.resize((20, 60))))))
    assert not studio.free.locked()


def test_internal_queries_draw_but_do_not_blend(pipe, monkeypatch):
    monkeypatch.setattr(pipe, "config", INTERNAL)
    with pytest.raises(ValueError, match="two exemplars cannot be mixed; take the second one away"):
        Studio(pipe).mix(ask(second=(C, C2)))
    assert Studio(pipe).mix(ask()) is None


def test_the_files_of_an_answer_say_how_to_make_it_again(loaded, tmp_path):
    pipe, basis = loaded
    host = Host(pipe, basis, "no data", LIMITS, tmp_path)
    *_, last = host.answers(form_of(tmp_path, strength=0.5), Visitor("here"))
    told = json.loads(Image.open(last.image).info["lorweb"])
    mix_LN = load_mix(last.answer.mix, basis)
    again = pipe(A, A2, B, told["prompt"], seed=told["seed"], strength=told["strength"], mix=mix_LN).images[0]
    assert same(Image.open(last.image), again)
    assert told["strength"] == 0.5 and told["steps"] == pipe.steps and "no data" in last.tasks
    for style, rank in (("diffusers", "exact"), ("comfyui", "2")):
        lora = host.bake(last.answer, style, rank, "here")
        tensors, metadata = read_safetensors(lora.path)
        assert json.loads(metadata["lorweb_bake"])["mix"] == told["mix"] and tensors
        assert lora.rank == (6 if rank == "exact" else 2) and (lora.error == 0) == (rank == "exact")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"b": None}, "image b is missing"),
        ({"c": {"path": __file__}}, "image c was not uploaded"),
        ({"strength": "much"}, "the strength is 'much'; give a number"),
        ({"t": -1}, "the interpolation is -1; give a number from 0 to 1"),
        ({"seed": 2.5}, "the seed is 2.5; give a whole number"),
        ({"prompt": "x" * 1001}, "the prompt is longer than 1000 letters"),
        ({"prompt": ["x"]}, "the prompt is longer"),
        ({"prompt": "caf\udce9"}, "the prompt holds half of a surrogate pair at 3"),
    ],
)
def test_a_form_that_cannot_be_drawn_is_a_sentence(loaded, tmp_path, changes, sentence):
    host = Host(*loaded, "no data", LIMITS, tmp_path)
    with pytest.raises(ValueError, match=sentence):
        list(host.answers(form_of(tmp_path, **changes), Visitor("here")))


def test_panels_name_the_nearest_tasks_and_escape_what_they_are_called(loaded, tmp_path):
    host = Host(*loaded, made_tasks(loaded[0]), LIMITS, tmp_path)
    *_, last = host.answers(form_of(tmp_path), Visitor("here"))
    assert last.mix.count('role="listitem"') == 3 and "LoRA 2: 0." in last.mix
    assert "weather/&lt;rain&gt;" in last.tasks and last.tasks.index("let it rain") < last.tasks.index("far off")


def test_a_lora_needs_an_answer_and_a_rank_that_the_basis_has(loaded, tmp_path):
    host = Host(*loaded, "no data", LIMITS, tmp_path)
    assert host.ranks == ["exact", "1", "2", "4"]
    with pytest.raises(ValueError, match="draw b' first"):
        host.bake(None, "diffusers", "exact", "here")


def exist(files) -> list[bool]:
    return [file.is_file() for file in files]


def test_only_the_last_answers_and_the_last_loras_are_kept(loaded, pipe, tmp_path):
    desk = Desk(*loaded, replace(LIMITS, kept=3, kept_loras=1), tmp_path)
    answers = [desk.put(drawn(Studio(pipe), ask(seed=seed))) for seed in range(4)]
    loras = [desk.bake(answers[-1], style, 1) for style in ("diffusers", "comfyui")]
    assert exist(answer.image for answer in answers) == [False, True, True, True]
    assert exist(lora.path for lora in loras) == [False, True]
    assert {file.parent.parent for file in tmp_path.rglob("*.*") if file.is_file()} == {Path(desk.holder.name)}


def test_files_are_kept_within_their_bytes_and_the_newest_always_is(loaded, pipe, tmp_path):
    made = drawn(Studio(pipe), ask())
    desk = Desk(*loaded, LIMITS, tmp_path)
    size = sum(file.stat().st_size for file in desk.put(made).image.parent.iterdir())
    for room, kept in (
        (2 * size, [False, True, True]),
        (2 * size - 1, [False, False, True]),
        (1, [False, False, True]),
    ):
        desk = Desk(*loaded, replace(LIMITS, kept_bytes=room), tmp_path)
        answers = [desk.put(made) for _ in range(3)]
        assert exist(answer.image for answer in answers) == kept
        assert exist(answer.mix for answer in answers) == kept


def test_what_cannot_be_written_whole_leaves_nothing(loaded, pipe, tmp_path):
    desk = Desk(*loaded, LIMITS, tmp_path)
    answer = desk.put(drawn(Studio(pipe), ask()))
    with pytest.raises(KeyError):
        desk.bake(replace(answer, facts={}), "diffusers", 1)
    assert list(Path(desk.holder.name).iterdir()) == [answer.image.parent]


@pytest.mark.slow
def test_a_picture_taken_home_is_made_again_by_the_command(loaded, pipe, model, tmp_path):
    desk, names = Desk(*loaded, LIMITS, tmp_path), {side: tmp_path / f"{side}.png" for side in ("a", "a2", "b")}
    for path, image in zip(names.values(), (A, A2, B), strict=True):
        image.save(path)
    answer = desk.put(drawn(Studio(pipe), ask(strength=0.7)))
    assert reproduce(answer.image, Given(names, model=str(model))).same
    blended = desk.put(drawn(Studio(pipe), ask(second=(C, C2), t=0.25)))
    with pytest.raises(FileNotFoundError, match=r"mix-[0-9a-f]{8}\.safetensors"):
        reproduce(blended.image, Given(names, model=str(model)))
    assert reproduce(blended.image, Given(names, [str(blended.mix)], str(model))).same
