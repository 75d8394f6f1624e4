"""How GPUs multiply float32 numbers, and whether they always add them up in the same order. CPUs have no such choice."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

# cuBLAS adds up in a fixed order only with workspaces of fixed size (its documentation, "Results reproducibility").
_CUBLAS_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


@contextmanager
def gpu_arithmetic(precision: str = "float32", *, fixed_shapes: bool = False, deterministic: bool = False) -> Generator:
    """In this block, or in a function that it decorates, GPUs compute as described here. Afterwards as before.

    precision: of a config. float32: all products are float32, also those of convolutions, for which PyTorch uses TF32
    by default. Any other: products of float32 tensors may use TF32 (10 of the 23 bits of the mantissa).
    fixed_shapes: almost all batches have the same shape, so it pays to try the algorithms of cuDNN and take the fastest
    one. Which one that is may differ from run to run, and with it the last bits.
    deterministic: only operations that always give the same bits, at the price of speed. RuntimeError for an operation
    that has no such implementation.
    """
    matmul, convolution, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn
    before = matmul.fp32_precision, convolution.fp32_precision, cudnn.benchmark
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    matmul.fp32_precision = convolution.fp32_precision = "ieee" if precision == "float32" else "tf32"
    cudnn.benchmark = fixed_shapes and not deterministic
    if deterministic:
        os.environ.update(_CUBLAS_WORKSPACE)
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        matmul.fp32_precision, convolution.fp32_precision, cudnn.benchmark = before
        torch.use_deterministic_algorithms(deterministic_before)
