"""The file of `ray up`: Ray takes it, and its machines hold what the image holds."""

import copy
import re
import shlex

import jsonschema
import pytest

from tests.cluster.manifest_files import CLUSTER, only


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Ray's command line imports
def test_ray_up_takes_its_file_and_starts_ray_with_options_it_has() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.scripts.scripts import start

    raw = only("ray-up.yaml")
    validate_config(prepare_config(copy.deepcopy(raw)))
    with pytest.raises(jsonschema.ValidationError, match="worker_ip"):
        validate_config(prepare_config({**copy.deepcopy(raw), "worker_ip": ["192.0.2.3"]}))
    starts = [
        line
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for line in raw[key]
        if "ray start" in line
    ]
    assert len(starts) == 2
    for line in starts:
        before, _, options = line.partition("ray start ")
        assert "RAY_AUTH_MODE=token" in before
        start.make_context("start", shlex.split(options))
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_ray_up_sets_up_what_the_image_holds() -> None:
    """The optimiser of the paper's profile among it: without, training ends after days of making data."""
    (line,) = only("ray-up.yaml")["setup_commands"]
    (extras,) = re.findall(r"EXTRAS=(\S+) \./setup\.sh", line)
    held = re.findall(r"--extra (\S+)", (CLUSTER / "Dockerfile").read_text(encoding="utf-8"))
    assert extras.split(",") == held and {"cluster", "quant"} <= set(held)
    assert "[${EXTRAS:-" in (CLUSTER.parent / "setup.sh").read_text(encoding="utf-8")


def test_ray_up_copies_all_code_and_no_data() -> None:
    """A pattern without a slash in front holds at any depth: `data` would leave lorweb/data behind."""
    anywhere = [pattern for pattern in only("ray-up.yaml")["rsync_exclude"] if not pattern.startswith("/")]
    code = [path for part in ("lorweb", "pipelines", "cluster") for path in (CLUSTER.parent / part).rglob("*.py")]
    assert len(code) > 200 and any(path.parent.name == "data" for path in code)
    assert not [path for path in code if set(path.parts) & set(anywhere)]
    assert "/.dvc/config.local" in only("ray-up.yaml")["rsync_exclude"], "keys of a DVC remote (docs/versions.md)"
