"""Which runs are to end: those that a visitor asked for before the last click on Stop.

A stop may overtake the question that it is meant for, which still waits in the queue, or whose call is still under way.
So both carry the time of their click, by the clock of the visitor's own page, and the order of arrival says nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

from lorweb.serving import demo_panels as panels
from lorweb.serving.demo_gate import told
from lorweb.serving.demo_limits import finite

STOPPED: Final = "Stopped."
# What a page does with a form before it is sent: its last field becomes the time of the click, in ms.
STAMP: Final = "(...form) => [...form.slice(0, -1), performance.now()]"


class Stops:
    """The last stop of each visitor, safe to ask in many threads; of the `most` visitors who stopped last."""

    def __init__(self, most: int) -> None:
        self.most, self.lock = most, Lock()
        self.at: OrderedDict[str, float] = OrderedDict()

    def stop(self, visitor: str, at: Any) -> None:
        """End what the visitor asked for until `at` (ms). Raises ValueError where that is no number."""
        time = finite(at, "time of the click")
        with self.lock:
            self.at[visitor] = max(time, self.at.pop(visitor, time))
            while len(self.at) > self.most:
                self.at.popitem(last=False)

    def stopped(self, visitor: str, asked: float | None) -> bool:
        """Whether what was asked at that time is to end; a question without a time is never stopped.

        A question that is newer than the stop makes it forgotten.
        """
        with self.lock:
            if asked is None or visitor not in self.at:
                return False
            if asked <= self.at[visitor]:
                return True
            del self.at[visitor]
            return False

    def stands(self, visitor: str) -> bool:
        """Whether a stop is the last thing that the visitor wanted."""
        with self.lock:
            return visitor in self.at


def wire_stop(stops: Stops, button: Any, asked: Any, status: Any, events: Sequence[Any]) -> None:
    """The button ends what runs and takes what waits out of the queue; its word is the last one on the status line.

    Gradio's page goes through the listeners of a click in turn, each to its end, and shows what it has received after
    a cancel too. So the run is told first, by a call that no queue holds up; and when an event has ended, and all of
    it was shown, the page asks whether a stop stands.
    """
    import gradio as gr

    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def stop(at: Any, request: gr.Request) -> str:
        with told():
            stops.stop(str(request.session_hash), at)
        return panels.status(STOPPED)

    def settle(request: gr.Request) -> Any:
        return panels.status(STOPPED) if stops.stands(str(request.session_hash)) else gr.skip()

    button.click(stop, asked, status, js=STAMP, preprocess=False, **at_once)
    button.click(None, cancels=list(events), api_visibility="private")
    for event in events:
        event.then(settle, None, status, **at_once)
