"""What sampling used: time, memory, energy. Recorded in a file of its own, since no two runs use the same."""

import sys
import time

import pandas as pd
import torch


class UsageMeter:
    """Measures from its creation on."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.start, self.start_energy = time.monotonic(), _energy_joules(device)
        # Loading ends with `model_loaded`; the next model's loading begins after the last batch.
        self.loading_seconds, self.loading_start = 0.0, self.start
        self.images = 0
        if device.startswith("cuda"):
            torch.cuda.init()  # not done yet where NVML does not answer
            torch.cuda.reset_peak_memory_stats(device)

    def seconds(self) -> float:
        """Seconds since the meter was created."""
        return time.monotonic() - self.start

    def model_loaded(self) -> None:
        """A model is loaded: the time since the last batch, or since the start, counts as loading."""
        self.loading_seconds += time.monotonic() - self.loading_start

    def batch_sampled(self, images: int) -> float:
        """A batch of `images` is sampled; returns images/s over all batches so far, without loading."""
        self.images += images
        self.loading_start = time.monotonic()
        return self.images / max(1e-9, self.seconds() - self.loading_seconds)

    def total(self, rows: pd.DataFrame, encoded_bytes: int) -> dict:
        """What the images of `rows` used, as written to costs/<shard>.json.

        seconds: from the creation of the meter to this call; seconds_loading, seconds_sampling: its parts. bytes: of
        the encoded images. peak_memory_bytes: CUDA: of tensors; CPU: resident set of the process. energy_joules: of the
        whole GPU, from NVML; null if it is not available.
        """
        energy = _energy_joules(self.device)
        seconds = self.seconds()
        sampling_seconds = seconds - self.loading_seconds
        return {
            "images_sampled": self.images,
            "seconds": round(seconds, 3),
            "seconds_loading": round(self.loading_seconds, 3),
            "seconds_sampling": round(sampling_seconds, 3),
            "images_per_s": round(self.images / max(1e-9, sampling_seconds), 3),
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


def _energy_joules(device: str) -> float | None:
    """Energy that the GPU has used since its driver was loaded; None if it is not measured."""
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        # NVML numbers all GPUs, torch only the visible ones: the UUID identifies the device in both.
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid)) / 1000
    except Exception:
        return None
