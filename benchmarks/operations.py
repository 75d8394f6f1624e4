"""How many floating-point operations the denoiser and the decoder of published models need, counted without computing.

    python benchmarks/operations.py [--quick]

The models have the published sizes and lie on torch's device `meta`: shapes are computed, numbers are not. An operation
is a multiplication or an addition. --quick: tiny models. The last line is one JSON object; without --quick it also goes
to benchmarks/results/operations.json.
"""

import argparse
import json
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from generation_models import diffusion_transformer, stable_diffusion
from hardware import measured_on


def main() -> None:
    """Count, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_default_dtype(torch.bfloat16)  # half the memory while the weights are made
    built = {"sd15": stable_diffusion(quick), "dit_xl": diffusion_transformer(quick)}
    with torch.no_grad(), torch.device("meta"):
        step, text = torch.empty(1), torch.empty(1, 77, 32 if quick else 768)
        models = {
            "sd15": count(built["sd15"].vae, built["sd15"].unet, timestep=step, encoder_hidden_states=text),
            "dit_xl": count(
                built["dit_xl"].vae, built["dit_xl"].transformer, timestep=step, class_labels=step.to(torch.long)
            ),
        }
    result = {"quick": quick, "teraflop": models, **measured_on()}
    if not quick:
        path = Path(__file__).parent / "results" / "operations.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def count(decoder, denoiser, **inputs) -> dict[str, float]:
    """Teraflop of one call of the denoiser for one image, without guidance, and of decoding one image."""
    size = denoiser.config.sample_size
    latents = torch.empty(1, 4, size, size)
    denoiser.to("meta")
    decoder.to("meta")
    teraflop = {}
    for name, call in (
        ("denoiser", lambda: denoiser(latents, **inputs)),
        ("decoder", lambda: decoder.decode(latents)),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        teraflop[name] = round(counter.get_total_flops() / 1e12, 4)
    return teraflop


if __name__ == "__main__":
    main()
