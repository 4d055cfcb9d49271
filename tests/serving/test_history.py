"""The order of moves, and how the aliases follow it: on a real SQLite registry, one interleaving after another."""

import dataclasses
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorweb.serving import settle
from lorweb.serving.history import DONE, VOID, History, Move, State, Why, ensure_model, replay
from lorweb.serving.processes import place
from lorweb.serving.registry import Overtaken, Registry
from lorweb.serving.tracking import experiment_id

STATES = st.builds(State, st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, 1, 2]))
ME = Why("me", "because")


def move(number: int, before: State, after: State, settled: str = "") -> Move:
    return Move(number, "promote", before, after, ME, number, "elsewhere", 1, settled)


@given(st.lists(st.tuples(STATES, STATES, st.sampled_from(["", DONE, VOID])), min_size=1, max_size=12))
def test_a_move_counts_if_it_begins_where_the_ones_before_it_ended(drawn):
    moves = [move(number, *parts) for number, parts in enumerate(drawn, 1)]
    state, counted = replay(moves)
    walked = moves[0].before
    for one in moves:  # the definition, step by step
        assert (one in counted) == (one.settled != VOID and one.before == walked)
        walked = one.after if one in counted else walked
    assert state == walked


@pytest.mark.parametrize(
    "name", ["a'b", 'a"b', "a`b", "a/b", "a:b", "a@b", "a\\", "a\nb", "\udce9", "", " ", ".", "..a"]
)
def test_a_name_that_no_model_can_have_is_refused_before_mlflow_reads_it(name):
    with pytest.raises(ValueError, match=r"the name of a registered model is .*; it must not be blank"):
        History(None, name)
    for fine in ("lorweb", "my model", "a.b", ".a", "é-1", "a%b"):
        assert History(None, fine).model == fine


@pytest.fixture
def registry(root) -> Registry:
    """Three versions, the first one champion."""
    found = Registry("lorweb", root)
    ensure_model(found.client, "lorweb", "")
    run = found.client.create_run(experiment_id(found.client, root)).info
    for name in ("basis.safetensors", "metadata.json"):
        found.client.log_text(run.run_id, "{}", name)
    for _ in range(3):  # with bare files: logging a model takes seconds
        found.client.create_model_version("lorweb", run.artifact_uri, run.run_id)
    found.promote(found.by_number(1), ME)
    return found


def noted(registry: Registry) -> Why:
    run = registry.decisions.record(1, "test", {}, {})
    return dataclasses.replace(ME, run=run)


def kinds(registry: Registry) -> list[tuple[str, str]]:
    return [(found.kind, found.settled) for found in registry.moves()]


def test_of_two_moves_on_one_state_the_first_counts_and_nobody_moves_twice(registry):
    state = registry.settle()
    registry.history.append("promote", state, State(2, 1), noted(registry))
    registry.history.append("promote", state, State(3, 1), noted(registry))
    assert registry.settle() == State(2, 1) == registry.aliases.read()
    assert kinds(registry) == [("promote", DONE), ("promote", DONE), ("promote", VOID)]


def test_who_comes_second_hears_it_and_has_moved_nothing(registry):
    seen = registry.settle()
    registry.promote(registry.by_number(2), ME, seen)
    with pytest.raises(Overtaken, match="was version 1 when this was decided and is version 2 now"):
        registry.promote(registry.by_number(3), ME, seen)
    real = registry.history.append

    def beaten(*words):
        other = Registry("lorweb", registry.root)
        other.promote(other.by_number(1), ME)
        return real(*words)

    registry.history.append = beaten  # another process comes between the look and the entry
    with pytest.raises(Overtaken, match="another process has moved it"):
        registry.promote(registry.by_number(3), ME)
    assert registry.aliases.read() == State(1, 2)


def test_a_writer_that_wakes_with_an_old_state_repairs_it_himself(registry):
    """P has appended, Q settles P's move and makes another, then P writes what it had worked out before."""
    state = registry.settle()
    registry.history.append("promote", state, State(2, 1), noted(registry))
    other = Registry("lorweb", registry.root)
    real = registry.aliases._set
    late = []

    def slow(alias, number):
        if not late:
            late.append(other.promote(other.by_number(3), ME))
        real(alias, number)

    registry.aliases._set = slow
    assert registry.settle() == State(3, 2) == registry.aliases.read() and late == [True]
    assert kinds(registry) == [("promote", DONE)] * 3


@pytest.mark.slow
def test_an_alias_moved_in_mlflow_itself_enters_the_history(registry):
    registry.client.set_registered_model_alias("lorweb", "champion", "3")
    assert registry.promote(registry.by_number(2), ME)
    assert kinds(registry) == [("promote", DONE), ("outside", DONE), ("promote", DONE)]
    assert registry.aliases.read() == State(2, 3)
    event = registry.events()[1]
    assert (event["what"], event["from"], event["to"]) == ("outside", 1, 3)


def test_a_version_of_the_history_that_lorweb_did_not_write_is_no_move_and_is_shown(registry):
    run = registry.client.get_run(registry.moves()[0].why.run).info
    registry.client.create_model_version("lorweb-history", run.artifact_uri, run.run_id)
    registry.client.create_model_version(
        "lorweb-history", run.artifact_uri, run.run_id, {"kind": "promote", "before": "[1"}
    )
    assert registry.promote(registry.by_number(2), ME)
    assert [found.number for found in registry.moves()] == [1, 4] and registry.aliases.read() == State(2, 1)
    assert [event["what"] for event in registry.events()] == ["promote", "ignored", "ignored", "promote"]
    assert "version 2 of the history was made in MLflow itself" in registry.events()[1]["why"]


def test_a_process_of_the_same_host_name_and_number_elsewhere_is_not_taken_for_gone_or_for_this_one():
    here = dataclasses.replace(move(1, State(1, None), State(2, 1)), place=place(), pid=2**22 + 1)
    assert here.abandoned and dataclasses.replace(here, pid=os.getpid()).own
    host, boot, numbers = place().split("/")
    for other in (f"{host}/{boot}/1", f"{host}/0/{numbers}", host, ""):
        there = dataclasses.replace(here, place=other)
        assert not there.abandoned and not dataclasses.replace(there, pid=os.getpid()).own


def test_a_version_that_is_gone_before_its_move_is_finished_is_no_champion(registry):
    registry.history.append("promote", registry.settle(), State(3, 1), noted(registry))
    registry.client.delete_model_version("lorweb", "3")
    assert registry.settle() == State(1, None)
    assert kinds(registry) == [("promote", DONE), ("promote", VOID)]


@pytest.mark.slow
def test_a_previous_champion_that_was_deleted_is_forgotten(registry):
    registry.promote(registry.by_number(2), ME)
    registry.client.delete_model_version("lorweb", "1")
    assert registry.settle() == State(2, None)
    with pytest.raises(ValueError, match="no previous champion to roll back to"):
        registry.rollback(ME)


@pytest.mark.slow
def test_a_living_process_is_given_its_time_and_a_dead_one_none(registry, monkeypatch):
    monkeypatch.setattr(settle, "PATIENCE", 1.0)
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for number, (pid, waits) in enumerate(((living.pid, True), (2**22 + 1, False)), 2):
            monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
            before = registry.aliases.read()
            registry.history.append("promote", before, State(number, before.champion), noted(registry))
            monkeypatch.undo()
            monkeypatch.setattr(settle, "PATIENCE", 1.0)
            begun = time.monotonic()
            assert registry.settle() == State(number, before.champion)
            assert (time.monotonic() - begun > 1.0) is waits
    finally:
        living.communicate(b"\n")
