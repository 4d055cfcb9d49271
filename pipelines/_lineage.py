"""The lineage key: what a model version was made from, joined into one record that travels in the registry's tags."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from lorweb.records import stable_id
from pipelines._launch import JOB

GIT: Final = "LORWEB_GIT"  # inside a job, which has no checkout: what `git_facts` found where it was submitted


def lineage(root: Path, metadata: dict[str, Any]) -> dict[str, str]:
    """Git commit, hashes of dvc.lock and params.yaml, outs of every stage, base and encoder, Ray job; and their key.

    What is not there (no git, no dvc.lock, no Ray) is an empty text, never an error.
    """
    lock = root / "dvc.lock"
    facts = {
        **(json.loads(os.environ[GIT]) if GIT in os.environ else git_facts(root)),
        "dvc_lock_sha256": _sha256(lock),
        "dvc_outs": json.dumps(_outs(lock), sort_keys=True),
        "params_sha256": _sha256(root / "params.yaml"),
        **{name: str(metadata.get(name, "")) for name in ("base", "base_revision", "encoder", "encoder_revision")},
    }
    key = stable_id(*(f"{name}={facts[name]}" for name in sorted(facts)))
    return {"lineage_key": key, **facts, "ray_job_id": _ray_job(), "ray_submission_id": os.environ.get(JOB, "")}


def git_facts(root: Path) -> dict[str, str]:
    """Commit of a checkout, and whether files differ from it."""
    return {
        "git_commit": _git(root, "rev-parse", "HEAD"),
        "git_dirty": "yes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "no",
    }


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _outs(lock: Path) -> dict[str, str]:
    """{path: md5} of all outs in dvc.lock."""
    if not lock.is_file():
        return {}
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    return {out["path"]: str(out.get("md5", "")) for stage in stages.values() for out in stage.get("outs", [])}


def _ray_job() -> str:
    """Id of the Ray job this process belongs to, or an empty text; Ray is not started for it."""
    import ray

    return str(ray.get_runtime_context().get_job_id()) if ray.is_initialized() else ""
