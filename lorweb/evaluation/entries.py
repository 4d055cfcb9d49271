"""Names of the models that can be compared (lorweb.evaluation.models.MODELS), for the parameters: without torch."""

from typing import Literal

ModelName = Literal[
    "lorweb",
    "lorweb_shuffled",
    "lorweb_identity",
    "single_lora",
    "single_lora_shuffled",
    "single_lora_equal",
    "single_lora_equal_shuffled",
    "basis_constant",
    "basis_constant_shuffled",
    "base",
    "base_prompt",
    "copy",
    "codec_copy",
    "codec_truth",
]
