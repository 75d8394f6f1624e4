"""What this machine offers: its CPU cores and its GPU, and models of the Hugging Face hub."""

import os
import threading
from dataclasses import dataclass

from synaug.runtime.devices import available_devices

_HUB_TIMEOUT_S = 4.0


def usable_cores() -> int:
    """Number of CPU cores that this process may use. A scheduler may have given it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Machine:
    """gpu: name of the largest GPU, or None. gpu_gigabytes: its memory, 10^9 bytes. cores: CPU cores for jobs."""

    gpu: str | None = None
    gpu_gigabytes: float = 0.0
    cores: int = 2


def this_machine() -> Machine:
    """The GPU with the most memory among the devices that jobs may use (SYNAUG_DEVICES), and the usable CPU cores."""
    devices = [device for device in available_devices() if device.startswith("cuda")]
    if not devices:
        return Machine(cores=usable_cores())
    import torch

    properties = max(map(torch.cuda.get_device_properties, devices), key=lambda gpu: gpu.total_memory)
    return Machine(properties.name, properties.total_memory / 1e9, usable_cores())


def has_model(model: str, revision: str) -> bool:
    """Whether the diffusers checkpoint `model` of the hub, with a U-Net, is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    needed = ("model_index.json", "unet/diffusion_pytorch_model.safetensors")
    return all(isinstance(try_to_load_from_cache(model, name, revision=revision), str) for name in needed)


def hub_is_reachable() -> bool:
    """Whether the Hugging Face hub answers within some seconds. With HF_HUB_OFFLINE=1 it is not asked."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    answers = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
            answers.append(True)
        except Exception:  # no network, no name server, a proxy that refuses, ...
            return

    # The look-up of a name has no time limit of its own, so the main thread does not wait for it.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_HUB_TIMEOUT_S)
    return bool(answers)
