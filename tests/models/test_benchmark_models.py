"""The models that benchmarks/generation.py builds have the sizes of the published ones."""

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import results_file  # noqa: E402
from generation_models import MODELS, on_meta_device  # noqa: E402

sys.path.remove(BENCHMARKS)  # or benchmarks/training.py would hide the scripts of the step training

# Billions of parameters: model cards and papers. Of DiT-XL/2 0.675, and 27 more copies of its embedding of time and
# class, because diffusers has one in every block.
PUBLISHED = {
    "sd15": {"unet": 0.860, "vae": 0.0837},
    "sd15_lcm": {"unet": 0.860},
    "sdxl_turbo": {"unet": 2.567, "vae": 0.0837},
    "dit_xl": {"transformer": 0.675 + 27 * 0.00278},
    "sd3_medium": {"transformer": 2.03, "text_encoder_3": 4.76},
    "flux_schnell": {"transformer": 11.89, "text_encoder_2": 4.76},
    "sana": {"transformer": 1.60, "text_encoder": 2.61, "vae": 0.312},
}


def test_every_model_is_compared():
    assert set(PUBLISHED) == set(MODELS) - {"embedded"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_as_many_parameters_as_the_published_one(name):
    build, _ = MODELS[name]
    parts = on_meta_device(build, quick=False).components
    for part, billions in PUBLISHED[name].items():
        parameters = list(parts[part].parameters())
        assert {parameter.device.type for parameter in parameters} == {"meta"}
        assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
        assert sum(parameter.numel() for parameter in parameters) == pytest.approx(billions * 1e9, rel=0.01)


def test_the_models_of_an_earlier_run_remain_in_the_results_unless_they_come_from_other_hardware(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "RESULTS", tmp_path)

    def models_after(hardware: str, **models: int) -> dict[str, int]:
        results_file.write_models("x", {"models": models, "hardware": hardware, "versions": {"torch": "2"}})
        return json.loads((tmp_path / "x.json").read_text())["models"]

    assert models_after("a GPU", sd15=1) == {"sd15": 1}
    assert models_after("a GPU", sdxl=2) == {"sd15": 1, "sdxl": 2}
    assert models_after("a GPU", sd15=3) == {"sd15": 3, "sdxl": 2}
    assert models_after("another GPU", sana=4) == {"sana": 4}
