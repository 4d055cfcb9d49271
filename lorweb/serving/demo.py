"""The web demo: three images in, b' out, and which LoRAs of the basis made it. Loopback unless told otherwise.

Legend: L layers with a basis, N LoRAs per layer.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from lorweb.data.decode import decode_rgb

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline

MAX_PIXELS: Final = 40_000_000  # of one uploaded image
MAX_WAITING: Final = 16  # questions in the queue: later ones are told to come back
TITLE: Final = "lorweb: a is to a' as b is to b'"
Triple = tuple[Image.Image, Image.Image, Image.Image]
Examples = Sequence[Triple]


@dataclass(frozen=True)
class Drawn:
    """b' and the mean share of each LoRA over the layers, [N]."""

    image: Image.Image
    shares: list[float]


def draw(
    pipe: "AnalogyPipeline", images: Sequence[Image.Image | None], strength: float, seed: int, prompt: str
) -> Drawn:
    """One question of the page.

    Raises:
        ValueError: an image is missing or too large; the sentence is shown on the page.
    """
    for name, image in zip(("a", "a'", "b"), images, strict=True):
        if image is None:
            raise ValueError(f"image {name} is missing; drop one into its field, or pick an example")
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"image {name} is {image.width}x{image.height} px; give one below {MAX_PIXELS} pixels")
    a, a2, b = (image for image in images if image is not None)
    output = pipe(a, a2, b, prompt, seed=int(seed), strength=strength)
    return Drawn(output.images[0], [] if output.mix_BLN is None else output.mix_BLN[0].mean(0).tolist())


def build_page(pipe: "AnalogyPipeline", examples: Examples = ()) -> Any:
    """The Gradio page, not yet served."""
    import gradio as gr

    _quiet()
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}\nGive an edit as a pair of images, and an image to edit in the same way.")
        with gr.Row():
            images = [gr.Image(label=label, type="pil", height=220) for label in ("a", "a'", "b")]
            answer = gr.Image(label="b'", type="pil", height=220, interactive=False, format="png")
        with gr.Row():
            strength = gr.Slider(-1.0, 2.0, value=1.0, step=0.05, label="strength: 1 is the analogy, 0 the base model")
            seed = gr.Number(0, label="seed", precision=0, minimum=0)
            prompt = gr.Textbox(label="prompt (optional)")
        button = gr.Button("Draw b'", variant="primary")
        mix = gr.Label(label="the LoRAs of the basis that made it, mean over layers", num_top_classes=8)
        if examples:
            gr.Examples([list(example) for example in examples], images, label="examples: held-out test analogies")
        button.click(_handler(pipe), [*images, strength, seed, prompt], [answer, mix], api_name="draw")
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def _handler(pipe: "AnalogyPipeline") -> Callable[..., tuple[Image.Image, dict[str, float]]]:
    import gradio as gr

    def answer(
        a: Image.Image, a2: Image.Image, b: Image.Image, strength: float, seed: int, prompt: str
    ) -> tuple[Image.Image, dict[str, float]]:
        try:
            drawn = draw(pipe, (a, a2, b), strength, seed, prompt)
        except ValueError as error:
            raise gr.Error(str(error)) from error
        return drawn.image, {f"LoRA {n}": share for n, share in enumerate(drawn.shares)}

    return answer


def find_examples(data: Path, count: int = 6) -> list[Triple]:
    """(a, a', b) of the first test analogies below `data`, one per task; none where the pipeline has not run."""
    from lorweb.data.shards import RowReader, read_index, read_table
    from lorweb.records import ANALOGY, PAIR

    if not (data / "analogies").is_dir() or not (data / "pairs").is_dir():
        return []
    rows = read_table(data / "analogies", ANALOGY).to_pylist()
    first = {
        row["task"]: row for row in sorted(rows, key=lambda r: str(r["id"]), reverse=True) if row["split"] == "test"
    }
    chosen = sorted(first.values(), key=lambda row: str(row["id"]))[:count]
    place = {row["id"]: row["at"] for row in read_index(data / "pairs", PAIR, ["id"])}
    read = RowReader(data / "pairs", PAIR, ["before", "after"])
    found = []
    for row in chosen:
        exemplar, query = read(place[row["exemplar"]]), read(place[row["query"]])
        a, a2, b = (decode_rgb(png, MAX_PIXELS) for png in (exemplar["before"], exemplar["after"], query["before"]))
        found.append((a, a2, b))
    return found


def serve(pipe: "AnalogyPipeline", host: str, port: int, examples: Examples = ()) -> None:
    """Serve the page until interrupted."""
    build_page(pipe, examples).launch(server_name=host, server_port=port, share=False)


def _quiet() -> None:
    """Gradio reports its use and asks a host for its version unless told not to."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
