"""Which trainings need so little memory that several of them fit on a GPU. It does not import torch."""

import os

from synaug.config import Stage1
from synaug.images.codec import LARGE
from synaug.runtime.devices import JOBS_PER_DEVICE, WHOLE_DEVICE

_BATCH = 128
_WIDTHS = {"resnet8": 32, "resnet32": 16}  # the usual ones
# Training images, or their features, lie in the memory of the GPU: 100,000 take 1.2 GB at most (rgb, 64 pixels).
_IMAGES = 100_000


def needs_little_memory(settings: Stage1, image_size: int) -> bool:
    """Whether 4 GB of GPU memory are enough to train, fine-tune and evaluate a network with these settings.

    image_size: pixels.

    True for the last layer on the features of a frozen backbone, and for resnet8 and resnet32 of the usual width with
    batches of up to 128 images of 64 pixels, or as many pixels in smaller images. Backpropagation keeps 1.3 GB of such
    a batch (resnet32, width 16; counted, not measured on a GPU). The training images and CUDA itself take the rest.
    """
    if settings.devices > 1:
        return False
    if settings.freeze == "backbone":
        return True
    if settings.backbone not in _WIDTHS or image_size > LARGE:
        return False
    usual = _WIDTHS[settings.backbone]
    return (settings.width or usual) <= usual and settings.batch_size * image_size**2 <= _BATCH * LARGE**2


def share_for(images: int, share: int) -> int:
    """`share` of a device (see `leased_device`), or the whole device if there are too many training `images` for it.

    The rules do not know this number. If the user has set SYNAUG_JOBS_PER_DEVICE, it holds for any number of images.
    """
    return WHOLE_DEVICE if images > _IMAGES and not os.environ.get(JOBS_PER_DEVICE) else share
