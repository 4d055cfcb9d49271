"""The row engine without Ray: whatever is killed, changed or repeated, each row is worked once and merged alike."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorweb.config import Pool
from lorweb.data.rejects import Rejected
from lorweb.data.shards import write_shards
from pipelines._results import read_batch
from pipelines._rows import RowJob, in_process, run_rows
from pipelines._stage import StageFailed

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("data", pa.large_binary())])


class Work:
    """Writes down what it works on; some values are refused, some raise."""

    def __init__(self, log: str) -> None:
        self.log = Path(log)

    def __call__(self, items):
        return [self._one(item) for item in items]

    def _one(self, item):
        if item["value"] == 13:
            raise RuntimeError("thirteen")
        with self.log.open("a") as log:
            log.write(item["id"] + "\n")
        if item["value"] % 10 == 7:
            return Rejected("seven", f"{item['value']} ends in 7", item["value"], 7)
        return {"id": item["id"], "data": json.dumps(item["value"]).encode() * 50}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(folder, identity=(1,), batch_size=4, max_error_rate=1.0):
    pool = Pool(actors=2, cpus=0.5, gpus=0, batch_size=batch_size)
    return RowJob("made", "work", Work, (str(folder / "log"),), identity, SCHEMA, pool, max_error_rate)


def items(values):
    return [{"id": f"r{value:04d}", "value": value, "at": [0, 0, place]} for place, value in enumerate(values)]


def worked(folder):
    log = folder / "log"
    return log.read_text().split() if log.exists() else []


def stops_after(number):
    """An executor that dies when it has finished some batches."""

    def execute(row_job, batches):
        for done, count in enumerate(in_process(row_job, batches)):
            if done == number:
                raise KeyboardInterrupt
            yield count

    return execute


def bytes_of(results, folder):
    write_shards(results.tables(), folder, SCHEMA)
    return (folder / "part-00000.parquet").read_bytes()


def test_rows_and_rejects_come_out_sorted(project):
    results = run_rows(job(project), items([21, 3, 7, 17, 1]), in_process)
    assert [row["id"] for row in results.index(["id"])] == ["r0001", "r0003", "r0021"]
    assert [(r["id"], r["check"], r["value"], r["stage"]) for r in results.rejects] == [
        ("r0007", "seven", 7.0, "made"),
        ("r0017", "seven", 17.0, "made"),
    ]
    assert len(results) == 3 and next(iter(results.tables(without={"r0003"}))).num_rows == 2


@settings(max_examples=12, deadline=None)
@given(
    values=st.lists(st.integers(14, 400), unique=True, min_size=1, max_size=40),
    stops=st.lists(st.integers(0, 6), max_size=4),
    sizes=st.lists(st.integers(1, 9), min_size=5, max_size=5),
    random=st.randoms(),
)
def test_any_interruptions_lose_nothing_and_repeat_nothing(tmp_path_factory, values, stops, sizes, random):
    disturbed, calm = tmp_path_factory.mktemp("disturbed"), tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(calm)
        expected = bytes_of(run_rows(job(calm), items(values), in_process), calm / "out")
        patch.chdir(disturbed)
        for stop, size in zip(stops, sizes, strict=False):
            random.shuffle(values)
            try:
                run_rows(job(disturbed, batch_size=size), items(values), stops_after(stop))
            except KeyboardInterrupt:
                continue
        random.shuffle(values)
        results = run_rows(job(disturbed, batch_size=sizes[-1]), items(values), in_process)
        assert bytes_of(results, disturbed / "out") == expected
    # a batch that is finished but not counted yet when the driver dies is never worked again
    assert sorted(worked(disturbed)) == sorted(worked(calm)) == sorted(f"r{v:04d}" for v in values)


def test_a_finished_run_needs_no_executor(project):
    run_rows(job(project), items(range(5)), in_process)

    def none(row_job, batches):
        raise AssertionError("nothing was left to do")

    assert len(run_rows(job(project), items(range(5)), none)) == 5


def test_new_items_and_changed_items_alone_are_worked(project):
    run_rows(job(project), items(range(5)), in_process)
    results = run_rows(job(project), [*items(range(6)), {"id": "x", "value": 1, "at": []}], in_process)
    assert worked(project)[5:] == ["r0005", "x"] and len(results) == 7
    changed = [{**item, "value": 99} if item["id"] == "r0002" else item for item in items(range(5))]
    results = run_rows(job(project), changed, in_process)
    assert worked(project)[7:] == ["r0002"] and len(results) == 5
    assert b"".join(t["data"][2].as_py() for t in results.tables()) == b"99" * 50


def test_where_the_bytes_lie_is_no_part_of_the_work(project):
    run_rows(job(project), items(range(5)), in_process)
    run_rows(job(project), [{**item, "at": [9, 9, 9]} for item in items(range(5))], in_process)
    assert len(worked(project)) == 5


def test_another_identity_is_other_work_and_going_back_is_free(project):
    for identity in ((1,), (2,), (1,)):
        run_rows(job(project, identity), items(range(3)), in_process)
    assert len(worked(project)) == 6
    for identity in ((3,), (4,), (5,)):
        run_rows(job(project, identity), items(range(3)), in_process)
    assert len(list((project / ".work/made").iterdir())) == 3


def test_one_bad_row_costs_itself_alone_and_is_tried_again(project):
    results = run_rows(job(project), items([12, 13, 14]), in_process)
    assert [row["id"] for row in results.index(["id"])] == ["r0012", "r0014"]
    assert [(r["check"], r["reason"]) for r in results.rejects] == [("error", "RuntimeError: thirteen")]
    again = run_rows(job(project), items([12, 13, 14]), in_process)
    assert worked(project).count("r0014") == 1
    assert (len(again), len(again.rejects)) == (2, 1)


def test_too_many_refusals_fail_with_reasons_and_examples(project):
    run_rows(job(project, max_error_rate=0.5), items([7, 1]), in_process)
    with pytest.raises(StageFailed) as failed:
        run_rows(job(project, max_error_rate=0.5, identity=(2,)), items([7, 17, 27, 13, 1, 2, 3]), in_process)
    text = str(failed.value)
    assert "4 of 7 rows were refused, more than made.max_error_rate = 0.5" in text
    assert "3 x seven: r0007 7 ends in 7; r0017 17 ends in 7; r0027" in text


def test_a_torn_journal_file_is_worked_again(project):
    run_rows(job(project), items(range(8)), in_process)
    torn = sorted((project / ".work/made").rglob("rows-*.arrow"))
    assert len(torn) == 2
    lost = read_batch(torn[0]).num_rows
    torn[0].write_bytes(torn[0].read_bytes()[:100])
    (torn[1].parent / "rows-x.123.tmp").write_bytes(b"half")
    results = run_rows(job(project), items(range(8)), in_process)
    assert len(worked(project)) == 8 + lost
    assert len(results) == 7 and len(results.rejects) == 1
    assert not list((project / ".work/made").rglob("*.tmp"))


def test_an_id_that_comes_twice_is_a_bug(project):
    with pytest.raises(AssertionError, match="twice"):
        run_rows(job(project), [*items([1]), {"id": "r0001", "value": 2, "at": []}], in_process)


def test_nothing_to_do_is_no_error(project):
    results = run_rows(job(project), [], in_process)
    assert len(results) == 0 and list(results.tables()) == []


def test_the_pace_counts_what_this_run_has_worked(project):
    first = run_rows(job(project), items([1, 2, 7, 4, 5]), in_process).pace
    assert first["rows"] == 5 and 0 < first["of_light"] <= 1 and first["light_rows_per_s"] > 0
    assert first["worker_megabytes"] == first["driver_megabytes"] > 10  # one process here
    again = run_rows(job(project), items([1, 2, 7, 4, 5, 6]), in_process).pace
    assert again["rows"] == 1
    assert run_rows(job(project), items([1, 2]), in_process).pace["rows"] == 0


def test_items_may_be_a_stream_and_are_worked_in_its_order(project):
    run_rows(job(project, batch_size=3), iter(items([5, 1, 9, 2])), in_process)
    assert worked(project) == ["r0005", "r0001", "r0009", "r0002"]
    assert not list((project / ".work/made").rglob("todo-*"))
