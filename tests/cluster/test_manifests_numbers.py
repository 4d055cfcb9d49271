"""Numbers in the manifests are those of the profile; the committed files are what the profile paper renders."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cluster import manifests
from cluster.manifests import CODE, render
from cluster.resources import needs
from lorweb.config import Params
from lorweb.profiles import load_profile
from tests.cluster.test_manifests import command_of

ROOT = CODE.parent


@pytest.fixture(scope="module")
def paper() -> Params:
    return load_profile(ROOT, "paper")


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return render("paper")


@pytest.mark.slow
def test_the_committed_files_are_what_the_profile_paper_renders(rendered: dict[str, str]) -> None:
    assert len(rendered) == 3
    for name, text in rendered.items():
        assert (CODE / name).read_text(encoding="utf-8") == text, f"{name}: python -m cluster.manifests --profile paper"


def test_check_tells_a_difference_and_writes_nothing(
    tmp_path: Path, rendered: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "render", lambda *given: rendered)  # made above; once is enough
    tool = command_of(manifests.main)
    for name, text in rendered.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    arguments = ["--profile", "paper", "--out", str(tmp_path), "--check"]
    assert CliRunner().invoke(tool, arguments).exit_code == 0
    other = tmp_path / "mlflow.yaml"
    other.write_text(rendered["mlflow.yaml"].replace("replicas: 1", "replicas: 2"), encoding="utf-8")
    told = CliRunner().invoke(tool, arguments)
    assert told.exit_code == 1 and "-  replicas: 2" in told.output
    assert "replicas: 2" in other.read_text(encoding="utf-8")


@pytest.mark.parametrize("image", ["lorweb", "lorweb:latest", "lorweb:", "a b:1"])
def test_an_image_has_a_version(image: str) -> None:
    with pytest.raises(ValueError, match="NAME:VERSION"):
        render("paper", image)


def test_paper_by_hand(paper: Params, rendered: dict[str, str]) -> None:
    """16 actors of half a core: 8 cores, 6 of each pod. Of docs/plan.md: 63.96 GB on the GPU; on the host 23.97 of the
    base, 7.52 of data, 5.04 of a checkpoint.
    """
    found = needs(paper, 1)
    assert (found.cpu.pods, found.cpu.cpus, found.cpu.gpus) == (2, 8, 0)
    assert found.gpu is not None and (found.gpu.pods, found.gpu.gpus) == (1, 1)
    assert found.gpu.memory_gib == 55  # (36.5e9 + 4 GiB) / 0.7
    assert found.gpu_mib == 62429  # (63.96e9 + 1.5e9) / 2**20
    assert found.hours == 194  # 2 * 72.75 + 48
    cluster = yaml.safe_load(rendered["kuberay/raycluster.yaml"])["spec"]
    limits = cluster["workerGroupSpecs"][1]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["memory"]) == ("1", "55Gi")


@pytest.mark.slow
def test_the_heads_disk_holds_its_fullest_moment(paper: Params, rendered: dict[str, str]) -> None:
    """By hand, in GB: 23,200 pairs of 512 px are 36.49 as pixels, 18.25 as PNG, and their sources 9.12; 6.91 are
    encoded, 6.68 published. While `evaluate` runs, all of these lie in /opt/lorweb, candidates too, 59.2, and pairs,
    encoded data and weights in the folder of its job, 31.8. The base is 33.7: 11.90 G values of transformer, 0.08 of
    VAE, 0.12 of CLIP and 4.76 of T5, two bytes each.
    Before it: `filter` with 27.4 beside 45.6, `encode` with 45.6 beside pairs and twice 6.91.
    """
    disk = needs(paper, 1).head.disk_gib
    base = 2 * (11.90e9 + 0.08e9 + 0.12e9 + 4.76e9)
    assert (91.0e9 + base) / 2**30 < disk - 8 < (91.0e9 + base) / 2**30 + 1 and disk == 125
    assert disk * 2**30 > base + max(27.4e9 + 45.6e9, 45.6e9 + 18.25e9 + 2 * 6.91e9, 59.2e9 + 31.8e9)
    more = changed(paper, keep_checkpoints=paper.train.keep_checkpoints + 5)  # each 5 GB, on the workers
    assert needs(more, 1).head.disk_gib == disk and needs(more, 1).cpu.disk_gib > needs(paper, 1).cpu.disk_gib + 20
    for name in ("raycluster", "rayjob"):
        spec = yaml.safe_load(rendered[f"kuberay/{name}.yaml"])["spec"]
        pod = spec.get("rayClusterSpec", spec)["headGroupSpec"]["template"]["spec"]
        assert pod["containers"][0]["resources"]["limits"]["ephemeral-storage"] == f"{disk}Gi"
        assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == f"{disk}Gi"


def changed(params: Params, **train: object) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=train)})


@pytest.mark.slow
def test_workers_make_pods_and_pods_may_share_a_machine(paper: Params) -> None:
    eight = changed(paper, workers=8, batch_size=8)
    alone, together = needs(eight, 1).gpu, needs(eight, 8).gpu
    assert alone and together
    assert (alone.pods, alone.gpus, together.pods, together.gpus) == (8, 1, 1, 8)
    assert together.memory_gib > 7 * alone.memory_gib - 8 * 6 and together.cpus > alone.cpus
    with pytest.raises(ValueError, match="at least 1"):
        needs(eight, 0)


@pytest.mark.slow
def test_a_profile_without_gpus_has_no_group_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = needs(load_profile(ROOT, "smoke"), 1)
    assert found.gpu is None and found.gpu_mib == 0 and found.cpu.pods == 1
    text = render("smoke")["kuberay/raycluster.yaml"]
    assert "nvidia.com" not in text and "-cuda" not in text
    assert [group["groupName"] for group in yaml.safe_load(text)["spec"]["workerGroupSpecs"]] == ["cpu"]


@pytest.mark.slow
def test_a_pool_of_more_actors_makes_more_pods(paper: Params) -> None:
    pool = paper.collect.pool.model_copy(update={"actors": 60, "cpus": 1.0})
    wider = paper.model_copy(update={"collect": paper.collect.model_copy(update={"pool": pool})})
    assert needs(wider, 1).cpu.pods == 10
    pool = paper.encode.pool.model_copy(update={"actors": 6})
    wider = paper.model_copy(update={"encode": paper.encode.model_copy(update={"pool": pool})})
    found = needs(wider, 2).gpu
    assert found and found.pods == 3
