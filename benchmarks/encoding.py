"""What storing an image costs: milliseconds and KiB per image, by format and size, on one core.

    python benchmarks/encoding.py [--quick]

Crops of the two photographs that scikit-learn ships, scaled down to each size, through `encode` as the workflow uses
it (with provenance in the file); `png_bare` is the same PNG without provenance, `png_default` what Pillow writes. The
last line is one JSON object; without --quick it also goes to benchmarks/results/encoding.json.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from hardware import measured_on
from synaug.generation.encoding import encode
from synaug.images.codec import encode_image

ROW = {
    "image_id": "0" * 24, "prompt": "a photo of a flower", "seed": 1, "model": "someone/a-model", "licence": "MIT",
    "model_version": "0123456789abcdef", "negative_prompt": "", "adapters": "", "pipeline": "text-to-image",
}  # fmt: skip


def default_png(pixels: np.ndarray, row: dict, format: str) -> bytes:
    """As most scripts save."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bare_png(pixels: np.ndarray, row: dict, format: str) -> bytes:
    """Without provenance."""
    return encode_image(pixels)


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    photos = [
        Image.fromarray(image).crop((x, 0, x + 400, 400)) for image in load_sample_images().images for x in (0, 240)
    ]
    ways = {"png_default": default_png, "png_bare": bare_png, "png": encode, "webp": encode, "jpeg": encode}
    figures = {}
    for size in (32, 512) if quick else (32, 64, 128, 256, 512):
        images = [np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC)) for photo in photos]
        figures[str(size)] = {}
        for name, way in ways.items():
            best, data = float("inf"), []
            for _ in range(1 if quick else 5):
                start = time.perf_counter()
                for _ in range(max(1, 128 // size)):
                    data = [way(image, ROW, name) for image in images]
                best = min(best, (time.perf_counter() - start) / max(1, 128 // size) / len(images))
            figures[str(size)][name] = {
                "ms": round(1000 * best, 3), "kib": round(sum(map(len, data)) / len(data) / 1024, 1)
            }  # fmt: skip
    result = {"quick": quick, "by_size_in_pixels": figures, **measured_on()}
    if not quick:
        Path(__file__).with_name("results").joinpath("encoding.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
