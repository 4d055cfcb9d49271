"""Where a stage runs: here, or as a Ray job on the cluster that LORWEB_CLUSTER names (docs/jobs.md)."""

import os
import sys
from typing import Final

CLUSTER: Final = "LORWEB_CLUSTER"  # the head's job server, http://HOST:8265
JOB: Final = "LORWEB_JOB"  # set inside a job: its submission id


def hand_over(stage: str) -> None:
    """Become the submitter of this stage where a cluster is named; return where it is to run here.

    So each command of dvc.yaml stays one Ray job, and DVC finds its outs at their places when it ends.
    """
    if not os.environ.get(CLUSTER) or os.environ.get(JOB):
        return
    if len(sys.argv) > 1:
        raise SystemExit(
            f"{stage}: {' '.join(sys.argv[1:])} is for a run on this machine, and {CLUSTER} names a cluster; unset it"
        )
    words = [sys.executable, "-m", "cluster.submit", stage, "--await-head"]  # which reads CLUSTER
    sys.stdout.flush()
    os.execv(sys.executable, words)
