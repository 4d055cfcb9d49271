"""Stop: which runs it ends, and what is shown to who looks late."""

import time

import pytest

from lorweb.serving.demo_host import Host, Visitor
from lorweb.serving.demo_stops import Stops
from lorweb.serving.demo_studio import Drawn, Forming, Question, Studio
from tests.serving.demo_server import IMAGES, LIMITS, form_of


@pytest.mark.slow
def test_who_looks_late_sees_the_newest(loaded, monkeypatch):
    monkeypatch.setattr(loaded[0], "steps", 60)
    run = Studio(loaded[0]).draw(Question((IMAGES["a"], IMAGES["a2"]), IMAGES["b"], "", 3, 1.0))
    first = next(run)
    time.sleep(0.5)
    second = next(run)
    assert isinstance(first, Forming)
    assert isinstance(second, Drawn) or second.done > first.done + 1
    assert isinstance([second, *run][-1], Drawn)


def test_a_stop_ends_what_was_asked_before_it_and_nothing_else(loaded, tmp_path, monkeypatch):
    pipe, basis = loaded
    host = Host(pipe, basis, "no data", LIMITS, tmp_path)
    monkeypatch.setattr(pipe, "steps", 500)
    run = host.answers(form_of(tmp_path, asked=10.0), Visitor("here", "one"))
    assert "Step" in next(run).status
    host.stops.stop("one", 12.5)
    *_, last = run
    assert "Stopped." in last.status and last.answer is None
    (late,) = host.answers(form_of(tmp_path, asked=12.5), Visitor("here", "one"))
    assert "Stopped." in late.status and late.image is None, "what waited in the queue does not begin"
    monkeypatch.setattr(pipe, "steps", 2)
    for asked, visit in ((11.0, "two"), (None, "one"), (12.6, "one")):
        *_, last = host.answers(form_of(tmp_path, asked=asked), Visitor("here", visit))
        assert "Drawn" in last.status
    assert not host.stops.stands("one") and not host.studio.free.locked()


def test_a_stop_ends_a_run_whose_page_asks_no_more(loaded, tmp_path, monkeypatch):
    """A call that is cancelled while a step is shown leaves its iterator open, held by whoever caught the error."""
    host = Host(*loaded, "no data", LIMITS, tmp_path)
    monkeypatch.setattr(loaded[0], "steps", 1000)
    abandoned = host.answers(form_of(tmp_path, asked=10.0), Visitor("here", "one"))
    assert "Step" in next(abandoned).status
    waits = host.answers(form_of(tmp_path, asked=11.0), Visitor("here", "two"))
    host.stops.stop("one", 12.5)
    assert "Step" in next(waits).status
    assert "Stopped." in [*abandoned][-1].status, "the next visitor waited until it was drawn"
    host.stops.stop("two", 12.5)
    assert "Stopped." in [*waits][-1].status and not host.studio.free.locked()


def test_stops_are_forgotten_from_the_oldest_on():
    stops = Stops(2)
    for at, visit in enumerate(("one", "two", "one", "three")):
        stops.stop(visit, at)
    assert [stops.stands(visit) for visit in ("one", "two", "three")] == [True, False, True]
    stops.stop("one", 1.0)
    assert stops.stopped("one", 2.0), "a stop that comes late takes none back"
    with pytest.raises(ValueError, match="the time of the click is 'soon'; give a number"):
        stops.stop("one", "soon")
