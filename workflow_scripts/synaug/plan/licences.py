"""What the licences of public models say about images that train another model.

It is no legal advice: licences change, and a model that is not in the table may have a restriction too. The config key
generation.licence stays the user's own.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Licence(NamedTuple):
    """limit: why a network that is trained on its images may not be used commercially without more; None: it may."""

    name: str
    limit: str | None
    source: str


# "Derivatives of the Model" are models that are trained to perform similarly to it. A classifier does not.
_RAIL = Licence(
    "CreativeML Open RAIL-M or RAIL++-M", None, "https://huggingface.co/spaces/CompVis/stable-diffusion-license"
)
_STABILITY = Licence(
    "Stability AI Community License",
    "commercial use is free only below US $1,000,000 of yearly revenue, and no foundational generative model may be "
    "trained on its images",
    "https://stability.ai/community-license-agreement",
)
_HUNYUAN = Licence(
    "Tencent Hunyuan Community License",
    "its images may not be used to improve other models",
    "https://huggingface.co/Tencent-Hunyuan/HunyuanDiT-v1.1",
)
_FLUX_DEV = Licence(
    "FLUX.1 [dev] Non-Commercial License",
    "to train other models for commercial use is not allowed",
    "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
)
_APACHE = Licence("Apache-2.0", None, "https://www.apache.org/licenses/LICENSE-2.0")

# Beginning of the id on the Hugging Face hub, in lower case -> licence. The longest beginning counts.
LICENCES = {
    "runwayml/stable-diffusion-v1-5": _RAIL,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _RAIL,
    "compvis/stable-diffusion-v1-": _RAIL,
    "stabilityai/stable-diffusion-2": _RAIL,
    "stabilityai/stable-diffusion-xl-": _RAIL,
    "stabilityai/stable-diffusion-3": _STABILITY,
    "stabilityai/sd-turbo": _STABILITY,
    "stabilityai/sdxl-turbo": Licence(
        "Stability AI Non-Commercial Research Community License",
        "it allows no commercial use (the model card names https://stability.ai/license for that), and counts a model "
        "that is trained on its images as a derivative work",
        "https://huggingface.co/stabilityai/sdxl-turbo",
    ),
    "black-forest-labs/flux.1-dev": _FLUX_DEV,
    "black-forest-labs/flux.1-kontext-dev": _FLUX_DEV,
    "black-forest-labs/flux.1-schnell": _APACHE,
    "pixart-alpha/": _RAIL,
    "efficient-large-model/sana": Licence(
        "NVIDIA License (NSCL v2-custom)",
        "it is for non-commercial use",
        "https://huggingface.co/Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers/blob/main/LICENSE.txt",
    ),
    "tencent-hunyuan/hunyuandit": _HUNYUAN,
    "facebook/dit-xl-2-": Licence(
        "CC-BY-NC-4.0", "it is for non-commercial use", "https://huggingface.co/facebook/DiT-XL-2-256"
    ),
    "simianluo/lcm_dreamshaper_v7": Licence("MIT", None, "https://huggingface.co/SimianLuo/LCM_Dreamshaper_v7"),
    "latent-consistency/lcm-lora-": _RAIL,
}


def licence_of(model: str) -> Licence | None:
    """The licence of a model on the hub; None for a local folder and for a model that is not in the table."""
    if Path(model).exists():
        return None
    known = [beginning for beginning in LICENCES if model.lower().startswith(beginning)]
    return LICENCES[max(known, key=len)] if known else None


def licence_warnings(plan: pd.DataFrame) -> list[str]:
    """A sentence for each model of `plan` (columns model and adapters of this manifest) with a restricted licence.

    An adapter counts as a model, and so does the base that its adapter_config.json names.
    """
    models = [str(model) for model in plan["model"].unique()]
    for adapters in plan["adapters"].unique():
        for adapter in json.loads(adapters or "[]"):
            models += [adapter["model"], *_base_of(Path(adapter["model"]))]
    licences = {model: licence_of(model) for model in dict.fromkeys(models)}
    return [
        f"Licence of {model}: {licence.name}; {licence.limit}. Read it before you use networks trained on these images "
        f"commercially: {licence.source}"
        for model, licence in licences.items()
        if licence and licence.limit
    ]


def _base_of(adapter: Path) -> list[str]:
    """The model that a local adapter was trained on, if peft has recorded it."""
    try:
        base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [base] if isinstance(base, str) else []
