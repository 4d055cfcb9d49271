"""What may be asked of the demo: uploads of every kind, numbers of every kind, and how often."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lorweb.serving.demo_limits import USUAL, Rate, finite, read_upload, whole, within
from tests.kontext.bad_images import REFUSED, TAKEN, png
from tests.kontext.made import same
from tests.serving.demo_server import IMAGES

SMALL = replace(USUAL, file_bytes=2000, pixels=1000)


def upload(folder, data: bytes, suffix: str = ".png"):
    path = folder / f"upload{suffix}"
    path.write_bytes(data)
    return {"path": str(path), "orig_name": f"mine{suffix}"}


@pytest.mark.parametrize("kind", list(TAKEN))
def test_an_odd_image_becomes_the_picture_that_it_shows(kind, tmp_path):
    odd = TAKEN[kind]()
    assert same(read_upload(upload(tmp_path, odd.data, odd.suffix), "a", USUAL, tmp_path), odd.shows, odd.by)


BROKEN = {
    **{kind: REFUSED[kind][0] for kind in REFUSED if kind.startswith("truncated")},
    "bomb": REFUSED["bomb"][0],
    "empty": lambda: b"",
    "text": lambda: b"this is no image at all\n" * 20,
    "pdf": lambda: b"%PDF-1.7\n" + b"0" * 400,
    "html": lambda: b"<html><script>alert(1)</script></html>",
    "half a header": lambda: png(16, 16, bits=8, data=b"")[:20],
}


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_file_that_is_no_whole_image_is_a_sentence_with_advice(kind, tmp_path):
    with pytest.raises(ValueError, match=r"^image b cannot be used: .*; (choose|give|save|scale) .+"):
        read_upload(upload(tmp_path, BROKEN[kind]()), "b", USUAL, tmp_path)


def test_pixels_are_counted_before_anything_is_decoded(tmp_path):
    with pytest.raises(ValueError, match="it has 120,000,000 pixels, more than the 40,000,000 that are taken here"):
        read_upload(upload(tmp_path, REFUSED["bomb"][0]()), "a", USUAL, tmp_path)


def test_bytes_are_counted_before_the_file_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"image a has 0.0 MiB, more than the 0.0 MiB .*; scale it down first"):
        read_upload(upload(tmp_path, b"0" * 2001), "a", SMALL, tmp_path)


@pytest.mark.parametrize("file", [None, {}, {"path": None}, {"path": ""}])
def test_a_missing_image_is_named(file, tmp_path):
    with pytest.raises(ValueError, match="image a' is missing; drop one into its field, or pick an example"):
        read_upload(file, "a'", USUAL, tmp_path)


def test_an_upload_that_was_cleared_away_is_asked_for_again(tmp_path):
    with pytest.raises(ValueError, match="image b is gone from the server; drop it into its field again"):
        read_upload({"path": str(tmp_path / "none.png")}, "b", USUAL, tmp_path)


def test_only_uploads_are_read_and_nothing_is_told_of_other_files(tmp_path):
    folder, secret = tmp_path / "uploads", tmp_path / "secret.png"
    folder.mkdir()
    IMAGES["a"].save(secret)
    (folder / "link.png").symlink_to(secret)
    (folder / "circle.png").symlink_to(folder / "circle.png")
    near = tmp_path / "uploads-of-another"
    near.mkdir()
    IMAGES["a"].save(near / "secret.png")
    paths = [secret, tmp_path / "none.png", folder / "../secret.png", folder / "link.png", near / "secret.png"]
    for path in [*map(str, paths), "secret.png", "/", "http://127.0.0.1/a.png", "a\0.png", "\ud800.png", "x" * 5000]:
        with pytest.raises(ValueError, match=r"^image a was not uploaded; drop it into its field, or pick an example$"):
            read_upload({"path": path}, "a", USUAL, folder)
    with pytest.raises(ValueError, match=r"^image a (is gone|was not uploaded)"):
        read_upload({"path": str(folder / "circle.png")}, "a", USUAL, folder)


def test_an_upload_is_found_where_its_folder_is_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    IMAGES["a"].save(tmp_path / "real" / "a.png")
    for folder in ("real", "link"):
        for path in ("real", "link"):
            file = {"path": str(tmp_path / path / "a.png")}
            assert same(read_upload(file, "a", USUAL, tmp_path / folder), IMAGES["a"])


@pytest.mark.parametrize("value", [None, "1", [1], True, float("nan"), float("inf"), {"a": 1}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"the seed is .*; give a number"):
        finite(value, "seed")


def test_numbers_have_a_range():
    assert whole(7.0, "seed", 10) == 7 and within(0, "strength", -1, 2) == 0.0
    for bad in (-1, 11, 1.5, 1e30):
        with pytest.raises(ValueError, match="give a whole number from 0 to 10"):
            whole(bad, "seed", 10)
    with pytest.raises(ValueError, match=r"the strength is 2\.1; give a number from -1 to 2"):
        within(2.1, "strength", -1, 2)


def test_limits_are_at_least_one():
    with pytest.raises(ValueError, match="the demo's limit waiting is 0; it must be at least 1"):
        replace(USUAL, waiting=0)


def test_an_address_may_ask_so_often_within_any_minute_and_others_are_not_kept_waiting():
    now = [0.0]
    rate = Rate(3, lambda: now[0])
    for second in (0, 10, 20):
        now[0] = second
        rate.ask("one")
    with pytest.raises(ValueError, match="you have asked 3 times within a minute; ask again in 40 s"):
        rate.ask("one")
    rate.ask("two")
    now[0] = 60.0
    rate.ask("one")  # the first of the three is a minute old
    with pytest.raises(ValueError, match="ask again in 10 s"):
        rate.ask("one")
    now[0] = 500.0
    rate.ask("three")
    assert set(rate.asked) == {"three"}, "addresses that asked nothing for a minute are forgotten"


def test_many_threads_are_counted_one_by_one():
    rate, refused = Rate(200, lambda: 0.0, did="uploaded", again="upload"), []

    def come(visitor: int) -> None:
        for _ in range(100):
            try:
                rate.ask("one")
            except ValueError as error:
                refused.append(str(error))
            rate.ask(f"{visitor}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come, range(8)))
    assert len(refused) == 600 and set(refused) == {"you have uploaded 200 times within a minute; upload again in 60 s"}
