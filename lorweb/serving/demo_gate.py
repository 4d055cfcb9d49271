"""Between Gradio and the demo: where uploads lie, what a field takes, and sentences for what goes wrong."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)


def upload_folder() -> Path:
    """Where Gradio puts uploads and the pictures that it shows; no other file of this machine is read for a visitor."""
    from gradio.utils import get_upload_folder

    return Path(get_upload_folder())


def take_uploads_only(field: Any) -> None:
    """Gradio would fetch an address that stands in the place of a field's file, for whoever sends it.

    The files that come by, which lie in its folder, are noted so that they go when they are old.
    """
    import gradio as gr

    async def refuse_addresses(path: Any) -> str:
        if "://" in str(path):
            raise gr.Error("an image must be uploaded; addresses are not fetched", print_exception=False)
        if Path(path).is_file():
            field.temp_files.add(str(Path(path).absolute()))
        return str(path)

    field.async_move_resource_to_block_cache = refuse_addresses


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong becomes a sentence on the page, and the page goes on."""
    import gradio as gr

    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(sentence(error), title="That did not work", print_exception=False) from error
    except Exception as error:
        LOG.exception("the demo could not answer")
        text = f"Something went wrong that is not your fault ({type(error).__name__}). The page goes on."
        raise gr.Error(escape(text), title="That did not work", print_exception=False) from error


def sentence(error: Exception) -> str:
    """What an error says, as HTML."""
    text = str(error)
    return escape(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
