"""Copies to the device that do not make the CPU wait."""

import numpy as np
import torch


def to_device(values: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values`, which lie in the memory of the CPU, on `device`.

    An ordinary copy to a GPU waits until the GPU has done all the work that it was given before. This one goes through
    page-locked memory and joins the queue, so that the CPU can prepare the next step in the meantime.
    """
    tensor = torch.as_tensor(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
