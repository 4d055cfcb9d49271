"""Steps of the paper's training on random weights of FLUX.1's size, beside the plan: python -m tests.plan.paper_on_cuda

Prints peak memory, seconds and utilisation for each number of rows. Needs a GPU of 48 GB or more, and no file.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from lorweb.basis import BasisConfig, add_basis, analogy, trainable
from lorweb.plan.devices import device
from lorweb.plan.flops import step_time
from lorweb.plan.memory import memory
from lorweb.plan.model import Others, read_model
from lorweb.plan.report import token_counts
from lorweb.plan.setting import read_setting
from lorweb.sizes import KONTEXT, PAPER, meta_transformer
from tests.plan.counted import section


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, nargs="+", default=[1])
    options.add_argument("--quadrant", type=int, default=512)
    options.add_argument("--gpu", default="h100")
    given = options.parse_args()
    config, tokens = BasisConfig(**PAPER), token_counts(given.quadrant, 512)
    model = read_model(meta_transformer(KONTEXT), config, Others(0, 0))
    setting = read_setting(section(gpus_per_worker=1, precision="bfloat16", gradient_checkpointing=True))
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        transformer = FluxTransformer2DModel(guidance_embeds=True).eval()
    torch.set_default_dtype(torch.float32)
    add_basis(transformer, config, seed=0)
    transformer.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW([p for group in trainable(transformer) for p in group], lr=1e-4, fused=True)
    for rows in given.rows:
        planned = replace(setting, batch_size=rows)
        plan = memory(model, planned, tokens)
        at = step_time(model, planned, tokens, device(given.gpu), 1.0)
        seconds, peaks = measure(transformer, optimizer, rows, tokens)
        beside = ", ".join(f"{name} {peaks[name] / 1e9:.2f} GB, plan {plan.total(name) / 1e9:.2f}" for name in peaks)
        print(f"rows {rows}: {beside}; {seconds:.2f} s, utilisation {at.compute / seconds:.3f}", flush=True)


def measure(transformer, optimizer, rows, tokens) -> tuple[float, dict[str, int]]:
    """Seconds and peaks of the third step."""
    noisy = tokens.image // 2
    given = {
        "hidden_states": torch.randn(rows, tokens.image, 64, device="cuda", dtype=torch.bfloat16),
        "encoder_hidden_states": torch.randn(rows, tokens.text, 4096, device="cuda", dtype=torch.bfloat16),
        "pooled_projections": torch.randn(rows, 768, device="cuda", dtype=torch.bfloat16),
        "timestep": torch.rand(rows, device="cuda", dtype=torch.bfloat16),
        "guidance": torch.ones(rows, device="cuda"),
        "img_ids": torch.zeros(tokens.image, 3, device="cuda"),
        "txt_ids": torch.zeros(tokens.text, 3, device="cuda"),
    }
    query = torch.randn(rows, 2304, device="cuda")
    seconds, peaks = 0.0, {}
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        with analogy(transformer, query):
            with torch.autocast("cuda", torch.bfloat16):
                found = transformer(**given).sample
            found[:, :noisy].float().square().mean().backward()
        peaks["backward"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        optimizer.step()
        torch.cuda.synchronize()
        seconds, peaks["update"] = time.perf_counter() - start, torch.cuda.max_memory_allocated()
    return seconds, peaks


if __name__ == "__main__":
    print(Path(__file__).name, torch.cuda.get_device_name(), torch.__version__)
    main()
