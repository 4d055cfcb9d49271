"""What driver and workers of training tell each other: the same in a folder and in a store."""

import threading
import time
import warnings

import pytest

from lorweb.storage.store import Store
from lorweb.training.tensors import unpack
from pipelines._train_log import Progress
from pipelines._train_notes import noting_warnings
from pipelines._train_told import PROGRESS, STOP, Messenger, Told
from tests.stores import s3_address, s3_prefixes, store

__all__ = ["s3_address", "s3_prefixes", "store"]  # fixtures


@pytest.fixture
def told(store):
    return Told(store, "work/told/1", 0.05)


def until(true) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_what_was_said_is_heard(told):
    assert told.heard("refusal") is None
    told.say("refusal", "é")
    told.say("refusal", "no")
    assert told.heard("refusal") == "no"


def test_every_note_is_read_once_in_its_order(told):
    known = set()
    assert told.notes(known) == []
    told.note("first\nline")
    told.note("second")
    assert told.notes(known) == ["first\nline", "second"] and told.notes(known) == []
    threads = [threading.Thread(target=told.note, args=(f"{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told.notes(known)) == [f"{n}" for n in range(8)]


def test_warnings_of_this_project_are_noted_and_others_go_where_they_went(told):
    where = {"lorweb": unpack.__code__.co_filename, "other": threading.__file__}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with noting_warnings(told):
            for said, file in where.items():
                warnings.warn_explicit(said, UserWarning, file, 1)
    assert told.notes(set()) == ["lorweb"] and [str(warning.message) for warning in seen] == ["other"]


def test_a_messenger_carries_the_newest_progress_and_hears_the_stop(told):
    with Messenger(told, True) as first, Messenger(told, False) as other:
        first.progress("1")
        first.progress("2")
        until(lambda: told.heard(PROGRESS) == "2")
        assert not first.stop_said()
        told.say(STOP, "1")
        until(first.stop_said)
        first.progress("3")
        other.progress("nobody")
    assert told.heard(PROGRESS) == "3" and not other.stop_said()


def test_a_step_waits_for_no_store_that_is_away():
    """A refused connection is tried again for 3.5 s; ten steps that say where they stand take none of that."""
    away = Told(Store("s3://bucket/x", {"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"}), "told", 0.01)
    messenger = Messenger(away, True)
    progress = Progress(messenger.progress, "lorweb", 10)
    messenger._thread.start()
    time.sleep(0.1)
    begun = time.monotonic()
    for step in range(1, 11):
        progress.stepped(step, StepOf(0.5))
        assert not messenger.stop_said()
    assert time.monotonic() - begun < 1.5
    messenger._over.set()  # its thread is a daemon: nobody waits for it either


class StepOf:
    def __init__(self, loss):
        self.loss = loss
