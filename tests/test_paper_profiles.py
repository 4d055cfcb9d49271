"""profiles/paper.yaml says what the paper says, whatever the default is, and its variants differ where they must."""

from pathlib import Path

import yaml

from lorweb.config import Params, Train, parse_params
from lorweb.profiles import load_profile, merge, profile_layers
from pipelines._mlflow_run import flatten
from pipelines.train import RESOURCES

ROOT = Path(__file__).parents[1]
PAPER = load_profile(ROOT, "paper")
# What a variant may differ in, by what it saves. None of it changes data, noise, steps, or what is trained.
SMALLER_GPU = {
    "paper-48gb": {"train.accumulate"},
    "paper-24gb": {
        "train.accumulate",
        "train.base_weights",
        "generate.editors",  # its Kontext is offloaded, and not compiled
        "encode.pool.gpus",
    },
}


def flat(params: Params) -> dict[str, str]:
    return flatten(params.model_dump(mode="json"))


def test_training_is_the_papers() -> None:
    """Against the paper, its model card and what its authors' configuration comes to, read off by hand."""
    train = PAPER.train
    basis = train.basis.model_dump()
    assert basis == {
        "n_loras": 32, "rank": 4, "key_dim": 128, "heads": 1, "activation": "softmax", "reduce": "mean",
        "projection": "linear", "internal": None, "targets": ("transformer_blocks.*", "single_transformer_blocks.*"),
    }  # fmt: skip
    assert train.optimizer.model_dump() == {
        "name": "adamw_8bit", "learning_rate": 1e-3, "router_multiplier": 1.0, "betas": (0.9, 0.99), "eps": 1e-6,
        "weight_decay": 0.05, "max_grad_norm": 1.0, "warmup_steps": 0, "schedule": "constant", "prodigy": None,
    }  # fmt: skip
    assert (train.steps, train.batch_size, train.workers, train.gpus_per_worker) == (10_000, 6, 1, 1)
    assert (train.caption_dropout, train.guidance) == (0.05, 1.0)
    assert (train.timesteps, train.weighting) == ("uniform", "bell")
    assert (train.precision, train.gradient_checkpointing, train.accumulate) == ("bfloat16", True, 1)
    assert (train.ema, train.stop, train.publish) == (None, None, "last")
    assert (train.checkpoint_every, train.keep_checkpoints) == (250, 4)


def test_data_and_drawing_are_the_papers() -> None:
    encode, evaluate = PAPER.encode, PAPER.evaluate
    assert encode.base == "black-forest-labs/FLUX.1-Kontext-dev"
    assert encode.encoder == "clip:openai/clip-vit-large-patch14" and encode.query_mode == "cat-aa'b"
    assert PAPER.collect.size == encode.quadrant == 512
    assert (evaluate.num_inference_steps, evaluate.guidance_scale, evaluate.prompt) == (28, 2.5, True)


def test_no_change_of_the_default_changes_the_papers_training() -> None:
    """The section stands alone: nothing of it comes from params.yaml."""
    (written,) = profile_layers(ROOT / "profiles", "paper")
    assert Train.model_validate(written["train"]) == PAPER.train


def test_variants_differ_in_nothing_but_what_saves_memory() -> None:
    names = {path.stem for path in (ROOT / "profiles").glob("paper-*.yaml")}
    assert names == set(SMALLER_GPU)
    paper = flat(PAPER)
    for name, allowed in SMALLER_GPU.items():
        variant = flat(load_profile(ROOT, name))
        differ = {key for key in paper.keys() | variant.keys() if paper.get(key) != variant.get(key)}
        assert differ == allowed, name
        of_training = {key.removeprefix("train.") for key in differ if key.startswith("train.")}
        assert of_training <= {*RESOURCES, "base_weights"}, "a run could not go on under the variant"


def test_the_variants_editors_are_the_papers_but_for_where_their_weights_lie() -> None:
    small = load_profile(ROOT, "paper-24gb").generate.editors
    for ours, theirs in zip(small, PAPER.generate.editors, strict=True):
        moved = {"offload": "none", "compile": True} if ours.editor == "kontext" else {}
        assert type(ours).model_validate({**ours.model_dump(), **moved}) == theirs


def test_a_micro_batch_of_a_variant_is_one_analogy() -> None:
    for name in SMALLER_GPU:
        train = load_profile(ROOT, name).train
        assert train.forward_rows == 1 and train.batch_size == 6


def test_what_the_guide_shows_as_an_own_profile_fits() -> None:
    """docs/training_profiles.md: an own file over the paper's."""
    text = (ROOT / "docs" / "training_profiles.md").read_text(encoding="utf-8")
    shown = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    assert len(shown) == 1 and shown[0].startswith("extends: paper")
    tree = yaml.safe_load(shown[0])
    (below,) = profile_layers(ROOT / "profiles", tree.pop("extends"))
    default = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found = parse_params(merge(merge(default, below), tree), "docs")
    assert found.train.optimizer.learning_rate == 1e-3 and found.train.steps != PAPER.train.steps
