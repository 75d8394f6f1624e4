"""What sampling costs: time, memory, energy. Noted beside the shard, since it is never twice the same."""

import sys
import time

import pandas as pd
import torch


class Cost:
    """A meter that starts when it is made."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start, self.start_energy = time.monotonic(), _energy_joules(device)
        self.loading, self.images, self.resumed_at = 0.0, 0, self.start
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)

    def seconds(self) -> float:
        """Since the meter was made."""
        return time.monotonic() - self.start

    def ready(self) -> None:
        """Say that a model is loaded, and that sampling begins: what went before is not counted as sampling."""
        now = time.monotonic()
        self.loading += now - self.resumed_at
        self.resumed_at = now

    def sampled(self, images: int) -> float:
        """Say that a batch is sampled; returns images/s of all so far, loading apart."""
        self.images += images
        self.resumed_at = time.monotonic()
        return self.images / max(1e-9, self.seconds() - self.loading)

    def total(self, rows: pd.DataFrame, encoded_bytes: int) -> dict:
        """What the images of `rows` cost.

        seconds: from the first import to the last image written; seconds_loading, seconds_sampling: its parts. bytes:
        of the encoded images. peak_memory_bytes: CUDA: of tensors; CPU: resident set of the process. energy_joules: of
        the whole GPU, by NVML; null without.
        """
        energy = _energy_joules(self.device)
        seconds = self.seconds()
        return {
            "images_sampled": self.images,
            "seconds": round(seconds, 3),
            "seconds_loading": round(self.loading, 3),
            "seconds_sampling": round(seconds - self.loading, 3),
            "images_per_s": round(self.images / max(1e-9, seconds - self.loading), 3),
            "bytes": encoded_bytes,
            "device": self.device,
            "peak_memory_bytes": _peak_memory(self.device),
            "energy_joules": None if energy is None or self.start_energy is None else energy - self.start_energy,
            "model_version": rows["model_version"].iloc[0],
            "steps": float(rows["steps"].mean()),
            "size": int(rows["size"].iloc[0]),
        }


def _peak_memory(device: str) -> int | None:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on every system
        return None
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes if sys.platform == "darwin" else kibibytes * 1024


def _energy_joules(device: str) -> float | None:
    """Energy that the GPU has used since its driver was loaded; null where nobody counts it."""
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        # NVML counts all GPUs, torch only the visible ones: the identity of the device is what both know.
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid)) / 1000
    except Exception:
        return None
