"""Scores by encoders, CLIP, DINO, classifiers: against transformers' own outputs and cosines by hand."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lorweb.basis.encoders import load_encoder
from lorweb.data.scorers.base import PairImages, Scored
from lorweb.data.scorers.build import describe
from tests.data.scoring import entry, made, photos, save_classifier, save_clip, save_dino, scored, some_pairs

WORDS = {"before": "{caption}", "after": "{caption}, {instruction}", "blank": "a picture"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return save_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


def cos(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def embeddings(folder, images, texts):
    """CLIPModel's own, of unit length, one input after another."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(str(folder)).eval()
    processor, tokenizer = CLIPImageProcessorPil.from_pretrained(folder), CLIPTokenizer.from_pretrained(str(folder))
    rows = []
    for image, text in zip(images, texts, strict=True):
        inputs = {**processor(images=[image], return_tensors="pt"), **tokenizer(text, return_tensors="pt")}
        with torch.no_grad():
            out = model(**inputs)
        rows.append((out.image_embeds[0].numpy(), out.text_embeds[0].numpy()))
    return rows


def test_clip_scores_by_hand(clip):
    pairs = some_pairs()
    answers = scored(pairs, scorer="clip", model=str(clip), **WORDS)
    for pair, found in zip(pairs, answers, strict=True):
        caption = pair.caption or "a picture"
        texts = [caption, f"{caption}, {pair.instruction}"]
        (a, told), (a2, asked) = embeddings(clip, [pair.before, pair.after], texts)
        assert found.scores["clip_image"] == pytest.approx(cos(a, a2), abs=1e-5)
        assert found.scores["clip_text_before"] == pytest.approx(cos(a, told), abs=1e-5)
        assert found.scores["clip_text"] == pytest.approx(cos(a2, asked), abs=1e-5)
        expected = cos(a2 - a, asked - told) if np.abs(a2 - a).max() > 1e-6 else 0.0
        assert found.scores["clip_direction"] == pytest.approx(expected, abs=1e-4)
        np.testing.assert_allclose(found.vectors["change.clip"], a2 - a, atol=1e-5)
        np.testing.assert_allclose(found.vectors["after.clip"], a2, atol=1e-5)
    directions = [found.scores["clip_direction"] for found in answers]
    assert len(set(directions)) == 4 and directions[3] == 0.0 and max(map(abs, directions)) > 0.05


def test_clip_reads_words_and_its_revision_covers_them(clip):
    facts = describe(entry(scorer="clip", model=str(clip), **WORDS))
    other = describe(entry(scorer="clip", model=str(clip), **{**WORDS, "blank": "an image"}))
    assert facts.reads == ("instruction", "caption") and facts.revision != other.revision
    assert facts.revision == describe(entry(scorer="clip", model=str(clip), **WORDS)).revision
    with pytest.raises(ValueError, match=r"needs \{instruction\} in after \('an edit'\)"):
        entry(scorer="clip", model=str(clip), **{**WORDS, "after": "an edit"})


def test_a_text_longer_than_the_context_is_cut(clip):
    (pair,) = some_pairs()[:1]
    long = PairImages(pair.before, pair.after, "word " * 200, pair.caption, pair.edit_type)
    (found,) = scored([long], scorer="clip", model=str(clip), **WORDS)
    assert isinstance(found, Scored) and abs(found.scores["clip_text"]) <= 1


def test_dino_similarity_is_the_cosine_of_the_class_tokens(dino):
    from transformers import BitImageProcessorPil, Dinov2Model

    model, processor = Dinov2Model.from_pretrained(str(dino)).eval(), BitImageProcessorPil.from_pretrained(dino)
    pairs = some_pairs()
    for pair, found in zip(pairs, scored(pairs, scorer="dino", model=str(dino)), strict=True):
        with torch.no_grad():
            hidden = [
                model(**processor(images=[i], return_tensors="pt")).last_hidden_state[0, 0].numpy()
                for i in (pair.before, pair.after)
            ]
        assert found.scores["dino_similarity"] == pytest.approx(cos(*hidden), abs=1e-5)
        np.testing.assert_allclose(found.vectors["change.dino"], hidden[1] - hidden[0], atol=1e-5)


@pytest.mark.slow
def test_any_encoder_is_a_second_opinion(clip):
    pairs = some_pairs()
    for name in ("efficientnet-lite0+style", f"clip:{clip}"):
        encode = load_encoder(name)
        answers = scored(pairs, scorer="features", name="second", encoder=name)
        for pair, found in zip(pairs, answers, strict=True):
            x, y = (encode([image])[0].numpy() for image in (pair.before, pair.after))
            assert found.scores["similarity.second"] == pytest.approx(cos(x, y), abs=1e-5)
            np.testing.assert_array_equal(found.vectors["change.second"], y - x)
            assert np.linalg.norm(found.vectors["before.second"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_an_unsafe_image_on_either_side_counts(classifier):
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    model = ViTForImageClassification.from_pretrained(str(classifier)).eval()
    processor = ViTImageProcessorPil.from_pretrained(classifier)
    pairs = some_pairs()
    labels = ["nsfw", "drawn nsfw"]
    answers = scored(pairs, scorer="classifier", name="unsafe", model=str(classifier), labels=labels)
    for pair, found in zip(pairs, answers, strict=True):
        with torch.no_grad():
            logits = [model(**processor(images=[i], return_tensors="pt")).logits[0] for i in (pair.before, pair.after)]
        chances = [float((row.exp() / row.exp().sum())[1:].sum()) for row in logits]
        assert found.scores == {"unsafe": pytest.approx(max(chances), abs=1e-5)}
    with pytest.raises(ValueError, match="unknown label 'nsfv'; did you mean 'nsfw'"):
        made(scorer="classifier", name="unsafe", model=str(classifier), labels=["nsfv"])


def test_no_answer_depends_on_its_neighbours_and_shared_images_are_seen_once(clip, monkeypatch):
    pairs = some_pairs()
    scorer = made(scorer="clip", model=str(clip), **WORDS)
    seen = []
    inner = scorer._images
    monkeypatch.setattr(scorer, "_images", lambda images: seen.extend(images) or inner(images))
    together = scorer(pairs)
    assert len(seen) == 6  # of 8 sides: two pairs share their source, one is its own answer
    alone = [scorer([pair])[0] for pair in pairs]
    assert [one.scores for one in alone] == [one.scores for one in together]
    for one, other in zip(alone, together, strict=True):
        assert all((one.vectors[name] == other.vectors[name]).all() for name in one.vectors)
    assert scorer([]) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scorer": "dino", "model": "nowhere"}, "no config.json in 'nowhere'; give the folder"),
        (
            {"scorer": "features", "name": "x", "encoder": "clop:here"},
            "unknown encoder 'clop:here'; did you mean 'clip:",
        ),
        ({"scorer": "clip", "model": "some-owner/some-clip", **WORDS}, "could not be fetched from the hub"),
    ],
)
def test_what_is_not_there_is_said(values, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        describe(entry(**values))


def test_another_model_is_refused_by_name(dino, clip, tmp_path):
    with pytest.raises(ValueError, match="does not load as CLIP"):
        made(scorer="clip", model=str(dino), **WORDS)
    from transformers import CLIPVisionModelWithProjection

    vision = tmp_path / "vision"
    shutil.copytree(clip, vision)
    CLIPVisionModelWithProjection.from_pretrained(str(clip)).save_pretrained(str(vision))
    (vision / "config.json").write_bytes((clip / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"has no weights 'text_.*' \(\d+ are missing\)"):
        made(scorer="clip", model=str(vision), **WORDS)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors file"):
        describe(entry(scorer="dino", model=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged or truncated"):
        describe(entry(scorer="dino", model=str(tmp_path)))


def test_sizes_may_differ_within_a_pair(dino):
    a, b, _ = photos()
    (found,) = scored([PairImages(a, b.resize((48, 80)), "", "", "style")], scorer="dino", model=str(dino))
    assert isinstance(found, Scored) and isinstance(a, Image.Image)
