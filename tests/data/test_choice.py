"""Which sources a task gets: kinds take turns, subjects before repeats, a larger number only adds."""

from collections import Counter

from lorweb.data.catalogue import Step, Task
from lorweb.data.choice import choose_sources

ALL = Task("colour/x", "colour", (Step("hue", {"degrees": 60.0}),), ("turn",), ("*",), "none")


def sources(photos=5, crops=4, avatars=40):
    rows = [{"id": f"p{i}c{c}", "subject": f"p{i}", "category": "photo"} for i in range(photos) for c in range(crops)]
    return rows + [{"id": f"a{i}", "subject": f"a{i}", "category": "avatar:thumbs"} for i in range(avatars)]


def test_few_photos_are_not_drowned_and_subjects_come_before_their_repeats():
    chosen = choose_sources(ALL, sources(), 20, seed=0)
    kinds = Counter(row["category"] for row in chosen)
    assert kinds == {"photo": 10, "avatar:thumbs": 10}
    assert Counter(Counter(r["subject"] for r in chosen if r["category"] == "photo").values()) == {2: 5}


def test_a_larger_number_adds_to_the_smaller_choice_and_stops_at_all():
    small, large = (choose_sources(ALL, sources(), n, seed=0) for n in (10, 30))
    assert small == large[:10]
    assert len(choose_sources(ALL, sources(), 10_000, seed=0)) == 60


def test_order_of_sources_does_not_matter_but_seed_and_task_do():
    assert choose_sources(ALL, sources()[::-1], 15, 0) == choose_sources(ALL, sources(), 15, 0)
    assert choose_sources(ALL, sources(), 15, 0) != choose_sources(ALL, sources(), 15, 1)


def test_only_fitting_categories_are_taken():
    photos = Task("colour/y", "colour", ALL.steps, ("turn",), ("photo",), "none")
    assert {r["category"] for r in choose_sources(photos, sources(), 50, 0)} == {"photo"}
