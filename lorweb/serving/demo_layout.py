"""The components of the demo's page and where they stand; `lorweb.serving.demo` connects them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorweb.serving import demo_panels as panels
from lorweb.serving.demo_examples import Example
from lorweb.serving.demo_gate import take_uploads_only
from lorweb.serving.demo_host import EXACT, STRENGTH
from lorweb.serving.demo_limits import MAX_SEED

HEIGHT = 282  # px of an image on the board
SMALL = 160  # px, the same of the second exemplar
TILE = 192  # px of an example


def theme() -> Any:
    """Gradio's soft theme in our colours, with the system's fonts."""
    import gradio as gr

    fonts, mono = ["ui-sans-serif", "system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    soft = gr.themes.Soft(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", font=fonts, font_mono=mono)
    text, ground = "*body_text_color", "*block_background_fill"
    return soft.set(
        body_background_fill="*neutral_100",
        block_background_fill="white",
        block_border_width="1px",
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0",
        block_title_text_color=text,
        block_title_text_color_dark=text,
        block_label_text_color=text,
        block_label_text_color_dark=text,
        block_label_background_fill=ground,
        block_label_background_fill_dark=ground,
    )


@dataclass(frozen=True)
class Board:
    """a -> a', b -> b', and the line below them."""

    a: Any
    a2: Any
    b: Any
    answer: Any
    status: Any


@dataclass(frozen=True)
class Controls:
    """What to draw, and how."""

    examples: Any
    prompt: Any
    strength: Any
    seed: Any
    draw: Any
    stop: Any
    c: Any
    c2: Any
    t: Any
    asked: Any


@dataclass(frozen=True)
class Results:
    """How b' was made, and what can be taken home."""

    mix: Any
    tasks: Any
    png: Any
    mix_file: Any
    style: Any
    rank: Any
    bake: Any
    lora: Any
    baked: Any


def picture(label: str, words: str, height: int, elem_id: str) -> Any:
    """A field that takes an image by click, drop or keyboard."""
    import gradio as gr

    field = gr.Image(
        label=label,
        type="filepath",
        format="png",
        image_mode=None,
        sources=["upload"],
        height=height,
        buttons=["fullscreen"],
        placeholder=words,
        alt_text=words.replace("\n", " "),
        elem_id=elem_id,
    )
    take_uploads_only(field)
    return field


def board() -> Board:
    """The 2 x 2 images."""
    import gradio as gr

    with gr.Row(elem_classes="lw-pair", equal_height=True):
        a = picture("a: before", "The exemplar\nbefore the edit", HEIGHT, "lw-a")
        gr.HTML(panels.ARROW)
        a2 = picture("a′: after", "The exemplar\nafter the edit", HEIGHT, "lw-a2")
    gr.HTML(panels.AS, elem_classes="lw-plain")
    with gr.Row(elem_classes="lw-pair", equal_height=True):
        b = picture("b: yours", "The image\nto edit", HEIGHT, "lw-b")
        gr.HTML(panels.ARROW)
        answer = gr.Image(
            label="b′: the answer",
            format="png",
            interactive=False,
            height=HEIGHT,
            buttons=["fullscreen"],
            alt_text="The answer: b with the edit that a and a′ show",
            elem_id="lw-answer",
        )
    return Board(a, a2, b, answer, gr.HTML(panels.status("Give three images, or pick an example.")))


def controls(examples: Sequence[Example]) -> Controls:
    """Examples, settings and the button."""
    import gradio as gr

    tiles = [(example.tile(TILE), example.name) for example in examples]
    gallery = gr.Gallery(
        tiles,
        label="Examples",
        columns=4,
        height=HEIGHT,
        allow_preview=False,
        object_fit="contain",
        format="png",
        buttons=[],
        interactive=False,
        visible=bool(examples),
        elem_id="lw-examples",
    )
    strength = gr.Slider(
        *STRENGTH,
        value=1.0,
        step=0.05,
        label="Strength",
        elem_id="lw-strength",
        info="1 is the analogy, 0 the base model, below 0 the opposite",
    )
    with gr.Accordion("A second exemplar", open=False, elem_id="lw-second"):
        with gr.Row(elem_classes="lw-pair", equal_height=True):
            c = picture("c: before", "Another exemplar\nbefore its edit", SMALL, "lw-c")
            gr.HTML(panels.ARROW)
            c2 = picture("c′: after", "Another exemplar\nafter its edit", SMALL, "lw-c2")
        t = gr.Slider(0.0, 1.0, value=0.5, step=0.05, label="Interpolation", info="0 is only a → a′, 1 only c → c′")
    with gr.Row():
        prompt = gr.Textbox(label="Prompt", placeholder="none needed", max_lines=1, scale=3, min_width=160)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, scale=1, min_width=90)
    with gr.Row():
        draw = gr.Button("Draw b′", variant="primary", scale=3, min_width=160, elem_id="lw-draw")
        stop = gr.Button("Stop", scale=1, min_width=80, elem_id="lw-stop")
    asked = gr.Number(0, label="Time of the click in ms; 0 is never stopped", visible=False)
    return Controls(gallery, prompt, strength, seed, draw, stop, c, c2, t, asked)


def results(ranks: Sequence[str]) -> Results:
    """Three panels side by side, one below the other where the window is narrow."""
    import gradio as gr

    with gr.Row():
        with gr.Column(elem_classes="lw-panel", min_width=300):
            gr.HTML("<h2>The LoRAs that made it</h2>")
            mix = gr.HTML(panels.NOTHING_YET, elem_id="lw-mix")
        with gr.Column(elem_classes="lw-panel", min_width=300):
            gr.HTML("<h2>The nearest training tasks</h2>")
            tasks = gr.HTML(panels.NOTHING_YET, elem_id="lw-tasks")
        with gr.Column(elem_classes="lw-panel", min_width=300):
            gr.HTML("<h2>To take home</h2>")
            with gr.Row():
                png = gr.DownloadButton("b′ (PNG)", interactive=False, min_width=120, elem_id="lw-png")
                mix_file = gr.DownloadButton("Mix file", interactive=False, min_width=120, elem_id="lw-mix-file")
            with gr.Row():
                style = gr.Radio(["diffusers", "comfyui"], value="diffusers", label="LoRA for", min_width=200)
                rank = gr.Dropdown(list(ranks), value=EXACT, label="Rank", min_width=90)
            with gr.Row():
                bake = gr.Button("Bake a LoRA", interactive=False, min_width=120, elem_id="lw-bake")
                lora = gr.DownloadButton("LoRA", interactive=False, min_width=120, elem_id="lw-lora")
            baked = gr.HTML(panels.LORA, elem_id="lw-baked")
    return Results(mix, tasks, png, mix_file, style, rank, bake, lora, baked)
