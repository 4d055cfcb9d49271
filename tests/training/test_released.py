"""A run that is dropped gives back its memory: the next variant needs the room."""

import gc
import weakref

import pytest

from lorweb.training import reduce
from tests.training.made import make_run, train_section, write_data


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "zero1", "zero2"])
def test_nothing_of_a_dropped_run_stays(tmp_path, monkeypatch, sharding):
    folders = write_data(tmp_path)
    monkeypatch.setattr(reduce, "world", lambda: (0, 2))  # nothing here talks to the other one
    run = make_run(folders, train_section(sharding=sharding))
    seen = [weakref.ref(parameter) for parameter in run.variant.parameters.values()]
    assert len(seen) > 40 and all(ref() is not None for ref in seen)
    del run
    gc.collect()
    assert not [ref for ref in seen if ref() is not None]
