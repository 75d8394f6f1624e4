"""How GPUs multiply float32 numbers, and whether they add up in the same order every time. CPUs leave no choice."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from synaug.runtime.errors import UserError

_NOT_DETERMINISTIC = " does not have a deterministic implementation"  # in the error of torch, after an operation


@contextmanager
def gpu_arithmetic(
    precision: str = "float32", *, fixed_shapes: bool = False, deterministic: bool = False
) -> Generator[None]:
    """Within this block, or within a function that it decorates, GPUs compute as follows.

    precision: as in the config. float32: products of float32 numbers are computed in float32, also in convolutions,
    where torch uses TF32 by default. Any other precision: products of float32 numbers may use TF32, which has 10 of the
    23 bits of the mantissa.
    fixed_shapes: nearly all batches have one shape, so it pays that cuDNN tries its algorithms and takes the fastest.
    It may choose another one in the next run, and with it other last bits.
    deterministic: only algorithms that give the same bits in every run, which is slower. Raises UserError if an
    operation has no such algorithm.
    """
    matmul, convolution, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn
    before = matmul.fp32_precision, convolution.fp32_precision, cudnn.benchmark
    matmul.fp32_precision = convolution.fp32_precision = "ieee" if precision == "float32" else "tf32"
    cudnn.benchmark = fixed_shapes and not deterministic
    if deterministic:
        # cuBLAS adds up in one order only with a workspace of fixed size; it reads this before its first product.
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if _NOT_DETERMINISTIC not in str(error):
            raise
        operation = str(error).partition(_NOT_DETERMINISTIC)[0]
        raise UserError(
            f"training.deterministic: this GPU has no deterministic algorithm for {operation}",
            advice="set it to false, or leave out the backbone, loss or augmentation that uses this operation",
        ) from error
    finally:
        matmul.fp32_precision, convolution.fp32_precision, cudnn.benchmark = before
        if deterministic:
            torch.use_deterministic_algorithms(False)
