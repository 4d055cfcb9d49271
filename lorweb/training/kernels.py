"""Kernels of a GPU that give the same bits each time, for a whole process."""

import os

import torch


def use_repeatable_kernels() -> None:
    """Before the first product on a GPU. What has no repeatable kernel raises RuntimeError when it runs."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)  # by warning alone, flash attention would not be repeatable
    # flash attention instead: on an H100 with torch 2.11 the backward pass of cuDNN's gave NaN, or failed
    torch.backends.cuda.enable_cudnn_sdp(False)
