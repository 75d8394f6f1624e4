"""Encoding, decoding and checking images."""

import numpy as np
import pytest
from PIL import Image

from synaug.images.codec import decode_image, encode_image, inspect_image

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_a_usable_image_has_a_size_and_no_reason(encode):
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"):
        assert inspect_image(encode(NOISE, kind), 1) == (60, 40, None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"once upon a time", "not an image"), (b"<svg xmlns='x'></svg>", "not an image")],
)
def test_data_that_are_not_an_image_have_a_reason(data, reason):
    assert reason in inspect_image(data, 1)[2]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_damaged(encode, kind, share):
    data = encode(NOISE, kind)
    assert inspect_image(data[: int(len(data) * share)], 1)[2] is not None


def test_an_image_with_too_many_pixels_is_not_decoded(encode):
    large = encode(Image.new("L", (2000, 1001)))
    assert "2 megapixels" in inspect_image(large, 2)[2]
    assert inspect_image(large, 2.1)[2] is None


def as_mode(mode: str) -> Image.Image:
    image = Image.fromarray(NOISE)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


@pytest.mark.parametrize("color", ["grey", "rgb"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_decodes_to_the_wanted_shape(encode, mode, color):
    data = encode(as_mode(mode), "JPEG" if mode == "CMYK" else "PNG")
    pixels = decode_image(data, 28, color)
    assert pixels.shape == (28, 28, {"grey": 1, "rgb": 3}[color])
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_sixteen_bit_images_keep_their_brightness(encode, color):
    eight = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    deep = encode(Image.fromarray(eight.astype(np.uint16) * 257))
    decoded = decode_image(deep, 64, color).astype(int)
    assert np.abs(decoded - eight[..., None]).max() <= 1


def pgm(values: np.ndarray, highest: int, plain: bool = False) -> bytes:
    """A grey image of more than 8 bits in which `highest` is white. values: integers, H x W. plain: numbers as text."""
    header = f"{'P2' if plain else 'P5'}\n{values.shape[1]} {values.shape[0]}\n{highest}\n".encode()
    return header + (" ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2").tobytes())


@pytest.mark.parametrize("color", ["grey", "rgb"])
@pytest.mark.parametrize(("highest", "plain"), [(65535, False), (65535, True), (4095, False), (4095, True)])
def test_a_grey_pgm_of_more_than_8_bits_is_decoded_as_the_same_png(encode, highest, plain, color):
    values = np.linspace(0, highest, 64 * 64).astype(np.uint16).reshape(64, 64)
    data = pgm(values, highest, plain)
    assert inspect_image(data, 1, color) == (64, 64, None)
    png = encode(Image.fromarray(np.round(values / highest * 65535).astype(np.uint16)))
    assert np.array_equal(decode_image(data, 64, color), decode_image(png, 64, color))
    assert decode_image(data, 64, color).max() == 255


@pytest.mark.parametrize("highest", [65535, 4095])
def test_a_truncated_pgm_is_damaged(highest):
    data = pgm(np.zeros((20, 20), np.uint16), highest)
    assert "is damaged" in inspect_image(data[:-1], 1)[2]


@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_encoding_loses_nothing(color):
    pixels = NOISE[:32, :32] if color == "rgb" else NOISE[:32, :32, :1]
    data = encode_image(pixels)
    assert np.array_equal(decode_image(data, 32, color), pixels)
    assert encode_image(pixels) == data


def test_a_photograph_is_rotated_upright(encode):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held with its right side up
    stored = encode(NOISE, exif=exif)
    upright = encode(np.rot90(NOISE, -1))
    assert np.array_equal(decode_image(stored, 40, "rgb"), decode_image(upright, 40, "rgb"))


def transparent(mode: str) -> tuple[Image.Image, dict]:
    """Left half black, right half transparent with red below; and what to save it with."""
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 20, 40))
    if mode == "P":
        return image.convert("RGB").quantize(2), {"transparency": image.convert("RGB").quantize(2).getpixel((30, 0))}
    if mode == "RGB":  # one colour stands for nothing
        return image.convert("RGB"), {"transparency": (255, 0, 0)}
    return image.convert(mode), {}


@pytest.mark.parametrize("color", ["grey", "rgb"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pixels_become_white(encode, mode, color):
    image, settings = transparent(mode)
    pixels = decode_image(encode(image, **settings), 40, color)
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_decodes_to_its_first_frame(encode, kind):
    frames = [Image.new("L", (20, 20), 0), Image.new("L", (20, 20), 255)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert inspect_image(data, 1) == (20, 20, None)
    assert decode_image(data, 20, "grey").max() <= 2


@pytest.mark.parametrize("mode", ["F", "I"])
def test_an_image_with_32_bit_pixels_is_not_usable(encode, mode):
    assert "32-bit" in inspect_image(encode(Image.new(mode, (20, 20), 70000), "TIFF"), 1)[2]


def test_an_image_with_negative_pixels_is_not_usable(encode):
    """A TIFF of 16 bits with a sign, as of some microscopes and scanners."""
    data = encode(Image.new("I;16", (20, 20), 900), "TIFF", tiffinfo={339: 2})  # SampleFormat: signed
    assert "signed" in inspect_image(data, 1)[2]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_an_image_may_have_one_pixel(encode, size):
    data = encode(Image.new("RGB", size, (9, 99, 199)))
    assert inspect_image(data, 1) == (*size, None)
    assert np.abs(decode_image(data, 32, "rgb").astype(int) - (9, 99, 199)).max() <= 1


def test_the_centre_is_cropped_without_distortion(encode):
    wide = np.zeros((28, 84, 3), np.uint8)
    wide[:, 28:56] = 200
    assert (decode_image(encode(wide), 28, "rgb") == 200).all()
