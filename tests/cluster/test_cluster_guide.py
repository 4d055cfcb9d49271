"""Commands of cluster/README.md: ours parse, files are there, and kubectl takes what it can judge without a cluster."""

import os
import re
import shutil
import subprocess

import pytest

from tests.cluster.manifest_files import CLUSTER, KUBERAY, SCHEMAS
from tests.cluster.test_manifests import check_python_command, python_commands

GUIDE = (CLUSTER / "README.md").read_text(encoding="utf-8")


def test_our_commands_parse() -> None:
    found = python_commands(GUIDE)
    assert {words[0] for words in found} == {"cluster.submit", "cluster.manifests"} and len(found) >= 4
    for words in found:
        check_python_command(words)


def test_no_blank_line_breaks_a_table() -> None:
    assert not re.search(r"^\|.*\n\n\|(?!.*\n\|[-|]+\n)", GUIDE, re.MULTILINE)


def test_the_schemas_of_kuberay_are_named_alike_and_no_release_is_claimed() -> None:
    assert f"`{KUBERAY}`" in (SCHEMAS / "README.md").read_text(encoding="utf-8")
    assert f"(commit {KUBERAY}; those of release 1.6.2 were not looked at)" in GUIDE


def test_compose_starts_an_image_that_the_guide_builds_there() -> None:
    (tag,) = re.findall(r"ssh HEAD 'cd lorweb && docker build .* --tag (\S+) \.'", GUIDE)
    default = re.search(r"\$\{LORWEB_IMAGE:-(.+)\}-cpu", (CLUSTER / "compose.yaml").read_text(encoding="utf-8"))
    assert default and tag == f"{default[1]}-cpu" and "`LORWEB_IMAGE`" in GUIDE


def test_files_that_commands_take_are_there() -> None:
    named = set(re.findall(r"(?:--file(?:name)?|ray up --yes|ray down --yes) (cluster/[\w/.-]+)", GUIDE))
    assert {"cluster/Dockerfile", "cluster/ray-up.yaml", "cluster/kuberay/rayjob.yaml"} <= named
    assert not [path for path in named if not (CLUSTER.parent / path).is_file()]
    listed = set(re.findall(r"^\| `([\w/.-]+)` \|", GUIDE, re.MULTILINE))
    ours = {path.relative_to(CLUSTER).as_posix() for path in CLUSTER.rglob("*.yaml")}
    assert ours <= listed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_kubectl_makes_what_the_guide_has_it_make() -> None:
    joined = GUIDE.replace("\\\n", " ")
    lines = re.findall(r"^ +(kubectl create (?:namespace|secret|configmap) [^\n#]+)", joined, re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", f"{line} --dry-run=client --output name"],
            cwd=CLUSTER.parent,
            env=os.environ | {"KUBECONFIG": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and "lorweb" in done.stdout, f"{line}: {done.stderr}"
