"""What a run refuses to be asked, what of a prompt is said, and that no black picture passes for an answer."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from lorweb import AnalogyPipeline
from lorweb.applying import ApplySettings
from lorweb.kontext.denoise import Sampling
from lorweb.kontext.quiet import Note
from lorweb.kontext.request import Request
from tests.cli_cases import IMAGES, run
from tests.kontext_tiny import drawn_image

A, A2, B = (drawn_image(seed, 40, 40) for seed in range(3))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"strength": float("nan")}, "the strength is nan; it must be a number from -10 to 10"),
        ({"strength": -10.5}, r"the strength is -10\.5; it must be a number from -10 to 10"),
        ({"seed": -1}, "the seed is -1; it must be a whole number from 0 to 9223372036854775807"),
        ({"seed": 2**63}, "the seed is 9223372036854775808; it must be a whole number"),
        ({"steps": 10**6}, "the number of inference steps is 1000000; it must be a whole number from 1 to 1000"),
        ({"guidance": float("inf")}, "the guidance scale is inf; it must be a number from 0 to 100"),
    ],
)
def test_one_set_of_limits_for_the_command_and_for_python(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        ApplySettings(**asked)
    given = {"steps": 2, "guidance": 2.5, "seed": 0, "strength": 1.0, **asked}
    with pytest.raises(ValueError, match=sentence):
        Request(Sampling(given["steps"], given["guidance"]), "", given["seed"], given["strength"])


def test_lists_of_seeds_are_looked_at_one_by_one():
    with pytest.raises(ValueError, match="the seed is -3; it must be a whole number from 0"):
        Request(Sampling(2, 2.5), seeds=[1, -3])
    assert Request(Sampling(2, 2.5), seeds=[torch.Generator()]).seed_of(0)


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_no_picture(model):
    pipe = AnalogyPipeline.from_pretrained(model)
    with torch.no_grad():
        pipe.base.transformer.proj_out.bias.fill_(float("inf"))
    with pytest.raises(ValueError, match="the latents after 2 steps are not finite numbers in float32: weights are"):
        pipe(A, A2, B, num_inference_steps=2)
    pipe = AnalogyPipeline.from_pretrained(model)
    with torch.no_grad():
        pipe.base.pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="the pixels that the codec gives are not finite numbers in float32"):
        pipe(A, A2, B, num_inference_steps=1)


@pytest.mark.slow
def test_a_prompt_that_is_cut_off_is_said_once(model):
    pipe = AnalogyPipeline.from_pretrained(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        pipe(A, A2, B, "warm", num_inference_steps=1)
    most = pipe.base.defaults.max_sequence_length
    with pytest.warns(Note, match=rf"tokens, and the text encoder reads the first {most}; the rest has no effect"):
        pipe(A, A2, B, "warm " * (most + 5), num_inference_steps=1)


@pytest.mark.slow
def test_a_prompt_for_a_model_that_never_saw_one_is_said_and_nothing_else_is(folder, model, capfd):
    shutil.copytree(model, "own")
    metadata = json.loads(Path("own/metadata.json").read_text())
    metadata["extra"]["caption_dropout"] = 1.0
    Path("own/metadata.json").write_text(json.dumps(metadata))
    _, said, err = run(capfd, "apply", *IMAGES, "-o", "one.png", "--model", "own")
    assert (said, err) == ("one.png\n", ""), "loading is quiet"
    code, said, err = run(capfd, "apply", *IMAGES, "-o", "two.png", "--model", "own", "--prompt", "a hat")
    assert (code, said) == (0, "two.png\n")
    assert err.count("\n") == 1 and err.startswith("lorweb: note: this model was trained without prompts")


def test_a_command_says_the_limits(folder, capsys):
    for option, value, words in (
        ("--steps", "100000", "the number of steps is 100000; it must be a whole number from 1 to 1000"),
        ("--strength", "50", "the strength is 50.0; it must be a number from -10 to 10"),
        ("--strength", "nan", "the strength is nan; it must be a number from -10 to 10"),
        ("--guidance", "inf", "the guidance scale is inf; it must be a number from 0 to 100"),
        ("--seed", "-1", "the seed is -1; it must be a whole number from 0 to"),
    ):
        code, _, err = run(capsys, "apply", *IMAGES, "-o", "o.png", "--model", "none", option, value)
        assert code == 2 and words in " ".join(err.replace("│", " ").split()), err
