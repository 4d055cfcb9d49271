"""A Python process in which lorweb cannot be imported: what people have who got a baked LoRA and nothing else."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

# -S: no site, so that no .pth file of an editable installation adds paths; packages come by PYTHONPATH alone
PREAMBLE = """
import importlib.util, json, sys
assert importlib.util.find_spec("diffusers") is not None
assert importlib.util.find_spec("lorweb") is None, importlib.util.find_spec("lorweb")
given = json.loads(sys.argv[1])
"""
# One call of a stock pipeline on a control grid: its latents, and its picture where the pipeline has a VAE.
STOCK = """
import numpy as np, torch
from diffusers import FluxKontextPipeline
from PIL import Image
from safetensors.torch import load_file

parts = {} if given["picture"] else {"vae": None}
pipe = FluxKontextPipeline.from_pretrained(given["base"], local_files_only=True, **parts)
pipe.set_progress_bar_config(disable=True)
if given["lora"]:
    pipe.load_lora_weights(given["lora"])
control = load_file(given["control"])["control"] if not given["picture"] else Image.open(given["control"])
side = given["side"]

def call(kind):
    return pipe(image=control, prompt=given["prompt"], height=side, width=side, max_area=side * side,
                _auto_resize=False, num_inference_steps=given["steps"], guidance_scale=given["guidance"],
                output_type=kind, max_sequence_length=given["tokens"],
                generator=torch.Generator().manual_seed(given["seed"])).images

np.save(given["out"] + "/latents.npy", call("latent").numpy())
if given["picture"]:
    call("pil")[0].save(given["out"] + "/picture.png")
assert "lorweb" not in sys.modules
"""


def run_elsewhere(code: str, folder: Path, **given: Any) -> None:
    """Run code there; `given` is what it finds under that name. What it prints is in the failure."""
    packages = os.pathsep.join(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", PREAMBLE + code, json.dumps(given)],
        cwd=folder,
        env={**environment, "PYTHONPATH": packages, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
