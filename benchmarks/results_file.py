"""Write the results of a program that measures several models on a GPU."""

import json
import re
from pathlib import Path

import torch

RESULTS = Path(__file__).resolve().with_name("results")


def device_word(device: str) -> str:
    """A word for `device` in a file name: cpu, or the name of the GPU."""
    return re.sub(r"\W+", "_", torch.cuda.get_device_name(device)).lower() if device.startswith("cuda") else "cpu"


def write_models(name: str, result: dict) -> None:
    """Write `result` to benchmarks/results/<name>.json, to be called after each model.

    So what was measured remains if the time of a GPU ends, and so do models that an earlier run has measured on the
    same hardware with the same versions. `result["models"]`: model -> its figures.
    """
    path = RESULTS / f"{name}.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    same = all(earlier.get(key) == result[key] for key in ("hardware", "versions"))
    models = (earlier["models"] if same else {}) | result["models"]
    path.write_text(json.dumps(result | {"models": models}, indent=1) + "\n")
