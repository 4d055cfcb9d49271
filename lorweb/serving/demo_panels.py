"""Pieces of the demo's page as HTML: bars that need no script, and lines that screen readers hear.

Everything that is not ours to choose is escaped.
"""

from collections.abc import Sequence
from html import escape

from lorweb.serving.demo_tasks import Near

TITLE = "lorweb: a is to a' as b is to b'"
HEAD = """<header class="lw-head"><h1>lorweb</h1>
<p>Show one edit as a pair of images, <b>a</b> and <b>a′</b>. Your image <b>b</b> is edited in the same way.</p>
</header>"""
ARROW = '<div class="lw-arrow" aria-hidden="true">→</div>'
AS = '<div class="lw-as" aria-hidden="true">in the same way</div>'
LORA = '<p class="lw-quiet">A plain LoRA does this one edit without lorweb.</p>'
NOTHING_YET = '<p class="lw-quiet">Draw b′ first.</p>'


def status(sentence: str, share: float | None = None) -> str:
    """A line below the images, and a bar where something is under way; `share` of it is done."""
    bar = "" if share is None else f'<progress value="{share:.3f}" max="1" aria-hidden="true"></progress>'
    return f'<div class="lw-status" role="status">{escape(sentence)}{bar}</div>'


def mix_bars(shares: Sequence[float], note: str) -> str:
    """The mean share of each LoRA over the layers as a bar chart; bars below 0 go to the other side of the line."""
    most = max([abs(share) for share in shares] + [1e-9])
    bars = []
    for index, share in enumerate(shares):
        side = "up" if share >= 0 else "down"
        label = f"LoRA {index}: {share:.3f}"
        bars.append(
            f'<div role="listitem" title="{label}"><span class="lw-{side}" style="--h:{abs(share) / most:.3f}"></span>'
            f'<i aria-hidden="true">{index}</i><em>{label}</em></div>'
        )
    signed = " lw-signed" if any(share < 0 for share in shares) else ""
    top = max(range(len(shares)), key=lambda i: abs(shares[i]))
    words = f"The largest share is {shares[top]:.3f}, of LoRA {top}. {note}"
    chart = f'<div role="list" class="lw-mix{signed}">{"".join(bars)}</div>'
    return f'{chart}<p class="lw-quiet">{escape(words.strip())}</p>'


def task_list(near: Sequence[Near]) -> str:
    """The nearest training tasks, each with a bar of how near it is."""
    rows = [
        f'<div role="listitem"><p><b>{escape(one.instruction)}</b> <span class="lw-quiet">{escape(one.task)}</span></p>'
        f'<span class="lw-bar" style="--w:{max(one.cosine, 0.0):.3f}"></span><i>{one.cosine:.2f}</i></div>'
        for one in near
    ]
    return (
        f'<div role="list" class="lw-tasks">{"".join(rows)}</div>'
        '<p class="lw-quiet">Cosine of mixes, each less the usual one: 1 is the mean of that task in training.</p>'
    )


def why_not(sentence: str) -> str:
    """A panel that has nothing to show, and says why."""
    return f'<p class="lw-quiet">{escape(sentence)}</p>'
