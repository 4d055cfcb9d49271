"""What a log hears of the progress of rows, as of a job that nobody watches on a terminal."""

from pipelines import _pace


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    pace = _pace.Pace("score", actors=1, total=40, kept=0, refused=0)
    counts = [{"kept": 8, "refused": 2, "busy": 0.1, "megabytes": 1}] * 4
    for count in _pace.shown("filter", pace, counts):
        pace.add(count)
    assert capsys.readouterr().err == ""  # it took no time
    monkeypatch.setattr(_pace, "EVERY", -1.0)
    pace = _pace.Pace("score", actors=1, total=40, kept=0, refused=0)
    for count in _pace.shown("filter", pace, counts):
        pace.add(count)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and said[0].startswith("filter score: 10 of 40 rows, 8 kept, 2 refused, ")
    assert said[-1].endswith("about 0 s left")
