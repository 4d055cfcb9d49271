"""Two models from anywhere: what makes their numbers comparable."""

import pytest

from lorweb.evaluation.compare import Contender, compare
from lorweb.evaluation.results import Measured

PROTOCOL = {
    "set": "a" * 64,
    "metrics": "2",
    "backbones": {"direction": {"name": "packaged", "revision": "1"}},
    "seeds": 1,
}


def contender(name, shift, protocol, analogies=6):
    found = [
        Measured(f"a{n}", f"t{n}", "colour", "none", False, "photo", {name: {"mse_to_truth": n + shift}})
        for n in range(analogies)
    ]
    return Contender(name, found, protocol)


@pytest.mark.parametrize("other", [PROTOCOL, {**PROTOCOL, "seeds": 3}, {}])
def test_the_same_measurement_is_compared(other):
    found = compare(contender("x", 0.5, PROTOCOL), contender("y", 0.0, other), 50, 0)
    assert found["mse_to_truth"]["seen"]["mean"] == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"set": "b" * 64}, "set: a{64} of x, b{64} of y"),
        ({"metrics": "1"}, "metrics: 2 of x, 1 of y"),
        ({"backbones": {}}, "backbones: .*packaged.* of x, {} of y"),
    ],
)
def test_another_measurement_is_refused_with_both_values(change, words):
    with pytest.raises(ValueError, match=words):
        compare(contender("x", 0.5, PROTOCOL), contender("y", 0.0, {**PROTOCOL, **change}), 50, 0)


def test_other_analogies_are_refused():
    with pytest.raises(ValueError, match=r"x answered 6 analogies and y 5; 1 are not among both, as \['a5'\]"):
        compare(contender("x", 0.5, {}), contender("y", 0.0, {}, analogies=5), 50, 0)
