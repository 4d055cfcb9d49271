"""The web demo: a : a' :: b : b' on one page. Loopback unless told otherwise, and no other host is ever asked.

`demo_layout` says what stands where, `demo_host` what happens; here the two are connected, and served.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorweb.serving import demo_layout as layout
from lorweb.serving import demo_panels as panels
from lorweb.serving.demo_examples import Example, find_examples, packaged_examples
from lorweb.serving.demo_gate import sentence, told, upload_folder
from lorweb.serving.demo_host import Form, Host, Shown, Visitor, tasks_or_why
from lorweb.serving.demo_limits import USUAL, Limits
from lorweb.serving.demo_stops import STAMP, wire_stop

if TYPE_CHECKING:
    from lorweb.kontext.pipeline import AnalogyPipeline

EXAMPLES = 8
CACHE = (600, 3600)  # s: how often old files of visitors are looked for, and their age when they go
LOOKS = 2  # uploads that are looked at at once, of all visitors
SESSIONS = 256  # visitors whose last answer is remembered
CSS = Path(__file__).with_name("demo.css")
# Gradio lets a slider go at `pointerup` alone: a key that has moved it is to draw as well
LET_GO = """() => document.addEventListener('keyup', event => {
    const moves = /^(Arrow|Home$|End$|Page)/.test(event.key) && event.target.matches('input[type=range]');
    if (moves) event.target.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}));
})"""


def build_page(host: Host, examples: Sequence[Example]) -> Any:
    """The Gradio page, not yet served."""
    _quiet()
    import gradio as gr

    with gr.Blocks(title=panels.TITLE, analytics_enabled=False, delete_cache=CACHE) as page:
        with gr.Row():
            gr.HTML(panels.HEAD, elem_id="lw-header")
            theme = gr.Button("Dark or light", size="sm", scale=0, min_width=120, elem_id="lw-theme")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                board = layout.board()
            with gr.Column(scale=2, min_width=320):
                controls = layout.controls(examples)
        results = layout.results(host.ranks)
        page.load(None, js=LET_GO, api_visibility="private")
        theme.click(None, js="() => { document.body.classList.toggle('dark'); }", api_visibility="private")
        _wire_images(host, board, controls, examples)
        _wire_drawing(host, board, controls, results)
    return page.queue(max_size=host.limits.waiting, default_concurrency_limit=4, api_open=False)  # none goes round it


def _wire_images(host: Host, board: layout.Board, controls: layout.Controls, examples: Sequence[Example]) -> None:
    """An upload is looked at once, so that what is shown is what is drawn with; an example fills three fields."""
    import gradio as gr

    def checker(name: str) -> Any:
        def check(file: Any, request: gr.Request) -> Any:
            try:
                return host.look(file, name, request.client.host)
            except (ValueError, OSError) as error:
                gr.Warning(sentence(error), title="That file cannot be used")
                return None

        return check

    fields = {"a": board.a, "a'": board.a2, "b": board.b, "c": controls.c, "c'": controls.c2}
    some = {"concurrency_id": "uploads", "concurrency_limit": LOOKS, "preprocess": False}
    for name, field in fields.items():
        field.upload(checker(name), field, field, show_progress="hidden", api_visibility="private", **some)

    def pick(event: gr.SelectData) -> tuple[Any, ...]:
        example = examples[event.index]
        return example.a, example.a2, example.b, panels.status(f"Example: {example.name}.")

    controls.examples.select(
        pick, None, [board.a, board.a2, board.b, board.status], show_progress="hidden", api_visibility="private"
    )


def _wire_drawing(host: Host, board: layout.Board, controls: layout.Controls, results: layout.Results) -> None:
    import gradio as gr

    last = gr.State(None, time_to_live=CACHE[1])
    form = [board.a, board.a2, board.b, controls.c, controls.c2]
    form += [controls.t, controls.strength, controls.seed, controls.prompt, controls.asked]
    shown = [board.answer, board.status, results.mix, results.tasks, results.png, results.mix_file]
    shown += [results.bake, results.lora, results.baked, last]

    def draw(  # noqa: PLR0913, PLR0917  Gradio gives one argument for each field
        a: Any, a2: Any, b: Any, c: Any, c2: Any, t: Any, strength: Any, seed: Any, prompt: Any, asked: Any,
        request: gr.Request,
    ) -> Iterator[list[Any]]:  # fmt: skip
        with told():
            form = Form(a, a2, b, c, c2, t, strength, seed, prompt, asked)
            for state in host.answers(form, Visitor(request.client.host, str(request.session_hash))):
                yield _outputs(state)

    def redraw(  # noqa: PLR0913, PLR0917
        drawn: Any, a: Any, a2: Any, b: Any, c: Any, c2: Any, t: Any, strength: Any, seed: Any, prompt: Any,
        asked: Any, request: gr.Request,
    ) -> Iterator[list[Any]]:  # fmt: skip
        if drawn is None:  # a slider that moves before anything was drawn asks for nothing
            yield [gr.skip()] * len(shown)
        else:
            yield from draw(a, a2, b, c, c2, t, strength, seed, prompt, asked, request)

    def bake(answer: Any, style: Any, rank: Any, request: gr.Request) -> list[Any]:
        with told():
            lora = host.bake(answer, style, rank, request.client.host)
        size = f"{lora.path.stat().st_size / 1e6:.2f} MB"
        said = f"Rank {lora.rank}, {size}; {lora.error:.1%} of the update is lost. Strength 1 is the analogy."
        return [gr.update(value=str(lora.path), interactive=True), panels.why_not(said)]

    one = {"concurrency_id": "model", "concurrency_limit": 1, "preprocess": False}
    gentle = {"show_progress": "minimal", "show_progress_on": board.answer}
    events = [
        gr.on(
            [controls.draw.click, controls.prompt.submit], draw, form, shown, api_name="draw", js=STAMP, **one, **gentle
        )
    ]
    sliders = [controls.strength.release, controls.t.release]
    private = {"api_visibility": "private", "trigger_mode": "always_last"}
    events.append(gr.on(sliders, redraw, [last, *form], shown, js=STAMP, **private, **one, **gentle))
    wire_stop(host.stops, controls.stop, controls.asked, board.status, events)
    baking = [last, results.style, results.rank]
    results.bake.click(bake, baking, [results.lora, results.baked], api_visibility="private", **one)


def _outputs(state: Shown) -> list[Any]:
    """In the order of `shown` above."""
    import gradio as gr

    answer = state.answer
    if answer is None:
        return [gr.skip() if state.image is None else state.image, state.status, *[gr.skip()] * 8]
    files = [gr.update(value=path and str(path), interactive=path is not None) for path in (answer.image, answer.mix)]
    bakes = [gr.update(interactive=answer.mix is not None), gr.update(value=None, interactive=False)]
    return [str(state.image), state.status, state.mix, state.tasks, *files, *bakes, panels.LORA, answer]


def launch(page: Any, address: tuple[str, int], limits: Limits, wait: bool) -> str:
    """Serve on (host, port) and return the page's URL; with `wait` only after an interrupt. Raises OSError: port taken.

    No part of the page comes from elsewhere: fonts are the system's, and Gradio's extras are off.
    """
    _, url, _ = page.launch(
        server_name=address[0],
        server_port=address[1],
        share=False,
        quiet=not wait,
        prevent_thread_lock=not wait,
        max_file_size=limits.file_bytes,
        theme=layout.theme(),
        css_paths=CSS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        state_session_capacity=SESSIONS,
    )
    return str(url)


def serve(model: "tuple[AnalogyPipeline, Path]", host: str, port: int, data: Path, limits: Limits = USUAL) -> None:
    """Serve (pipeline, its basis file) until interrupted, with what `data` of a pipeline run offers.

    Raises:
        ValueError: the data are damaged.
        OSError: the port is taken, or no temporary file can be written.
    """
    pipe, basis = model
    pipe.set_progress_bar_config(disable=True)
    examples = find_examples(data, EXAMPLES) or packaged_examples(max(256, pipe.rule.quadrant.width))
    _quiet()
    page = build_page(Host(pipe, basis, tasks_or_why(pipe, data), limits, upload_folder()), examples)
    launch(page, (host, port), limits, wait=True)


def _quiet() -> None:
    """Gradio reports its use and asks a host for its version unless told not to."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
