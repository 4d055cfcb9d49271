"""The contract between stages: one Arrow schema per record, and nothing else crosses a stage boundary.

Images are encoded bytes (PNG, RGB, 8 bit) in `large_binary` columns: a plain `binary` column overflows its 32-bit
offsets at 2 GiB. Scores ride as JSON text with sorted keys, so that equal scores are equal bytes.
"""

import hashlib
import json
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SCHEMA_VERSION: Final = 1

SOURCE: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # first 16 hex digits of sha256(origin)
        pa.field(
            "subject", pa.string(), nullable=False
        ),  # unit of the subject split: the origin photo, or style and seed
        pa.field(
            "category", pa.string(), nullable=False
        ),  # "photo" or "avatar:<style>", what an edit may ask of a subject
        pa.field("caption", pa.string(), nullable=False),
        pa.field("image", pa.large_binary(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),  # SPDX identifier where there is one
        pa.field("origin", pa.string(), nullable=False),  # "<reader>:<what it needs to make this image again>"
        pa.field("sha256", pa.string(), nullable=False),  # of `image`
    ]
)

# Pairs that exist: the image that a reader of pairs brought beside a source. data/sources/given.
GIVEN: Final = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),  # id of the SOURCE row, its before image
        pa.field("task", pa.string(), nullable=False),
        pa.field("edit_type", pa.string(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("after", pa.large_binary(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),  # of `after`
    ]
)

PAIR: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # first 16 hex digits of sha256(task | source id | seed)
        pa.field("task", pa.string(), nullable=False),  # id in tasks.json beside the shards
        pa.field("edit_type", pa.string(), nullable=False),  # family of the task
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("before", pa.large_binary(), nullable=False),
        pa.field("after", pa.large_binary(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("editor", pa.string(), nullable=False),
        pa.field("editor_revision", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("scores", pa.string(), nullable=False),  # JSON object {scorer: number}
    ]
)

REJECT: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # id of what was rejected, or a hash of its location
        pa.field("stage", pa.string(), nullable=False),
        pa.field("check", pa.string(), nullable=False),  # which rule refused it
        pa.field("reason", pa.string(), nullable=False),  # one sentence
        pa.field("value", pa.float64()),  # what was measured, null where the check is not a number
        pa.field("threshold", pa.float64()),
        pa.field("scores", pa.string(), nullable=False),
    ]
)

ANALOGY: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("edit_type", pa.string(), nullable=False),
        pa.field("exemplar", pa.string(), nullable=False),  # pair id: its before and after are a and a2
        pa.field("query", pa.string(), nullable=False),  # pair id: its before is b, its after the true b2
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # "val" or "test"; training analogies are sampled, never listed
        pa.field("holdout", pa.string(), nullable=False),  # "none", "value", "composition", "edit"
        pa.field("subject_seen", pa.bool_(), nullable=False),
    ]
)

# One row per pair that training may draw from: a training analogy is two rows of one task with different subjects.
TRAIN_PAIR: Final = pa.schema(
    [
        pa.field("pair", pa.string(), nullable=False),  # a row of PAIR, or of DERIVED
        pa.field("task", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("weight", pa.int64(), nullable=False),  # of its task: how often it is drawn, relative to the others
    ]
)

# Training pairs whose images are sides of other pairs: rows of TRAIN_PAIR with the same `pair` speak of them.
DERIVED: Final = pa.schema(
    [
        pa.field("pair", pa.string(), nullable=False),
        pa.field("before_pair", pa.string(), nullable=False),  # a row of PAIR
        pa.field("before_side", pa.string(), nullable=False),  # "before" or "after": which of its images is a
        pa.field("after_pair", pa.string(), nullable=False),
        pa.field("after_side", pa.string(), nullable=False),
    ]
)

# What scorers said of pairs in words, such as a judge's reason. data/pairs/notes, where a scorer says anything.
NOTE: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of a candidate, kept or refused
        pa.field("notes", pa.string(), nullable=False),  # JSON object {scorer: {name: text}}
    ]
)

# What decides whether two pairs are alike, by pair: 64-bit perceptual hashes as 16 hex digits, and features of a.
LOOK: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("before_hash", pa.string(), nullable=False),
        pa.field("after_hash", pa.string(), nullable=False),
        pa.field("content", pa.large_binary(), nullable=False),  # float16 [D]; empty where no scorer gives features
    ]
)

# data/encoded: shards of images, text/ and grids/, and pairs.parquet. The blobs are safetensors files.
ENCODED_IMAGE: Final = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),  # sha256 of the PNG bytes; with "~k" behind it, view k of it
        pa.field("tensors", pa.large_binary(), nullable=False),  # `latents` [C, h, w] and `features` [D], float16
    ]
)

ENCODED_TEXT: Final = pa.schema(
    [
        pa.field("instruction", pa.string(), nullable=False),  # "" is the empty prompt
        pa.field("tensors", pa.large_binary(), nullable=False),  # `prompt_embeds` [T, E] and `pooled` [P]
    ]
)

# Only for query modes that look at the grid: one row per analogy that training, validation or evaluation may ask for.
ENCODED_GRID: Final = pa.schema(
    [
        pa.field("images", pa.string(), nullable=False),  # "a,a2,b": keys into ENCODED_IMAGE
        pa.field("tensors", pa.large_binary(), nullable=False),  # `features` [D] of the mode's view, float16
    ]
)

ENCODED_PAIR: Final = pa.schema(
    [
        pa.field("pair", pa.string(), nullable=False),
        pa.field("before", pa.string(), nullable=False),  # key into ENCODED_IMAGE
        pa.field("after", pa.string(), nullable=False),
    ]
)


def stable_id(*parts: object) -> str:
    """First 16 hex digits of the sha256 of the parts, joined by an unprintable separator: same parts, same id."""
    return hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).hexdigest()[:16]


def dump_scores(scores: dict[str, float]) -> str:
    """Scores as canonical JSON: keys sorted, six significant digits, so that equal scores are equal bytes."""
    return json.dumps({k: float(f"{v:.6g}") for k, v in sorted(scores.items())})


def load_scores(text: str) -> dict[str, float]:
    """The inverse of `dump_scores`."""
    scores: dict[str, float] = json.loads(text)
    return scores


def pack_features(features_D: NDArray[np.float32]) -> bytes:
    """Features as they are stored: float16."""
    return np.asarray(features_D, dtype="<f2").tobytes()


def unpack_features(data: bytes) -> NDArray[np.float32]:
    """The inverse of `pack_features`, float32 [D]."""
    return np.frombuffer(data, dtype="<f2").astype(np.float32)
