"""Licences: a restricted model is named once, with its limit; a free, local or unknown model is not."""

import json

import pandas as pd
import pytest

from synaug.plan.licences import LICENCES, licence_warnings


def plan(*models: str, adapters: str = "") -> pd.DataFrame:
    return pd.DataFrame({"model": models, "adapters": adapters})


@pytest.mark.parametrize(
    ("model", "name", "limit"),
    [
        ("stabilityai/stable-diffusion-3.5-medium", "Stability AI Community License", "US $1,000,000"),
        (
            "black-forest-labs/FLUX.1-dev",
            "FLUX.1 [dev] Non-Commercial License",
            "train other models for commercial use",
        ),
        ("facebook/DiT-XL-2-512", "CC-BY-NC-4.0", "non-commercial use"),
        ("stabilityai/sdxl-turbo", "Stability AI Non-Commercial", "derivative work"),
        ("Efficient-Large-Model/Sana_1600M_512px_diffusers", "NVIDIA License", "non-commercial use"),
    ],
)
def test_a_restricted_model_is_named_once_with_its_limit(model, name, limit):
    [warning] = licence_warnings(plan(model, model))
    assert warning.startswith(f"Licence of {model}: {name}") and limit in warning and "https://" in warning


@pytest.mark.parametrize(
    "model",
    [
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "black-forest-labs/FLUX.1-schnell",
        "PixArt-alpha/PixArt-XL-2-1024-MS",
        "somebody/unknown-model",
        "resources/embedded_generator",
    ],
)
def test_a_free_an_unknown_or_a_local_model_has_no_warning(model):
    assert licence_warnings(plan(model)) == []


def test_a_local_folder_with_the_name_of_a_restricted_model_has_no_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facebook/DiT-XL-2-256").mkdir(parents=True)
    assert licence_warnings(plan("facebook/DiT-XL-2-256")) == []


def test_the_base_of_an_adapter_counts(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "stabilityai/sdxl-turbo"}))
    adapters = json.dumps([{"kind": "lora", "model": str(tmp_path)}, {"kind": "lora", "model": "a/b"}])
    [warning] = licence_warnings(plan("some/model", adapters=adapters))
    assert warning.startswith("Licence of stabilityai/sdxl-turbo")
    (tmp_path / "adapter_config.json").write_text("{")
    assert licence_warnings(plan("some/model", adapters=adapters)) == []


def test_the_table_is_in_lower_case_as_it_is_searched():
    assert all(beginning == beginning.lower() for beginning in LICENCES)
