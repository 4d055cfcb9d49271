"""What diffusers and transformers say of themselves: nothing while they load, one sentence where a prompt is cut."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Note(UserWarning):
    """Something that a person should know and that stops nothing; the command line shows it as a sentence."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from drawing bars and from warning of each other: stderr is for sentences. Afterwards they may."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [library.get_verbosity() for library in (of_diffusers, of_transformers)]
    for library in (of_diffusers, of_transformers):
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, level in zip((of_diffusers, of_transformers), before, strict=True):
            library.set_verbosity(level)


def encode_prompt(pipeline: Any, prompts: list[str], device: Any, most: int) -> Any:
    """The stock `encode_prompt`; the libraries' own warnings, which hold the prompt as it came, become one `Note`.

    Args:
        pipeline: a stock FluxKontextPipeline.
        prompts: at least one.
        device: where the text encoders run.
        most: tokens that the text encoder reads.
    """
    with quiet():
        length = max(len(ids) for ids in pipeline.tokenizer_2(prompts).input_ids)
        found = pipeline.encode_prompt(prompts, device=device, max_sequence_length=most)
    if length > most:
        warnings.warn(
            f"the prompt has {length} tokens, and the text encoder reads the first {most}; the rest has no effect, say "
            "it shorter",
            Note,
            stacklevel=3,
        )
    return found


def note_unprompted(prompts: list[str]) -> None:
    """A `Note` where a model is asked with prompts that its training never saw."""
    if any(prompts):
        warnings.warn(
            "this model was trained without prompts (caption_dropout 1): the base reads the prompt, but the basis has "
            "never seen one, so that the example may count for less",
            Note,
            stacklevel=3,
        )
