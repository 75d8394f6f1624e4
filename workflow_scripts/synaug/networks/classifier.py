"""The classifier: a body that computes features, and the last layer `head`, which stage 2 trains again."""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.pretrained import build_body, load_pretrained_body
from synaug.networks.resnet import RESNETS
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, check_regular_file

COSINE_SCALE = 30.0  # Cao et al. 2019
_AT_ONCE = 500  # images of up to 64 pixels


def images_at_once(shape: torch.Size | tuple[int, ...], most: int = _AT_ONCE) -> int:
    """How many images a network gets at once, where only memory matters. shape: N x C x H x W, or N x D of features.

    most: of up to 64 pixels, or of features.
    """
    return most if len(shape) == 2 else max(1, most * 64**2 // max(shape[-1], 64) ** 2)


class CosineHead(nn.Linear):
    """The normalised last layer of LDAM: cosine of the features and the weights of each class, times COSINE_SCALE."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """N x inputs to N x outputs, -COSINE_SCALE to COSINE_SCALE."""
        return COSINE_SCALE * F.linear(F.normalize(input), F.normalize(self.weight))


HEADS = {"linear": nn.Linear, "cosine": CosineHead}


class Classifier(nn.Module):
    """Normalisation, body and head. It takes images as uint8, so that no caller has to normalise them.

    config: the arguments of the constructor, as `save_classifier` stores them.
    """

    def __init__(
        self, backbone: str, width: int | None, classes: list[str], size: int, channels: int, head: str = "linear"
    ):
        """width: channels of the first blocks, only for RESNETS; None: the default. size: side of the images, pixels.

        Raises UserError for a network that does not exist or cannot take images of this size.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))
        if backbone in RESNETS:
            build, default_width = RESNETS[backbone]
            width = width or default_width
            self.body, features = build(channels, width)
        else:
            self.body, features = build_body(backbone, channels, size)
        self.head = HEADS[head](features, len(classes))
        self.config = {
            "backbone": backbone, "width": width, "classes": classes, "size": size, "channels": channels, "head": head,
        }  # fmt: skip

    def load_pretrained(self, weights: bool | str) -> None:
        """Load pretrained weights into the body, and the normalisation that they expect.

        weights: True: download those of the library; "embedded"; or the path of a safetensors file. Raises UserError
        if they cannot be downloaded, do not exist, or do not fit.
        """
        config = self.config
        mean, std = load_pretrained_body(self.body, config["backbone"], config["channels"], config["size"], weights)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def set_normalisation(self, images: torch.Tensor) -> None:
        """Normalise by the mean and standard deviation of each channel of `images`, uint8, N x C x H x W."""
        pixels = images.float()
        self.mean = pixels.mean((0, 2, 3), keepdim=True)
        self.std = pixels.std((0, 2, 3), keepdim=True).clamp_min(1.0)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Images (0 to 255, any type, N x C x H x W) to features, N x D.

        Features that are computed already (N x D) are returned as they are.
        """
        if images.dim() == 2:
            return images
        x = (images.float() - self.mean) / self.std
        return self.body(x.to(memory_format=torch.channels_last))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (0 to 255, any type, N x C x H x W), or their `features` (N x D), to logits, N x classes."""
        return self.head(self.features(images))

    @torch.inference_mode()
    @gpu_arithmetic()
    def probabilities(self, images: torch.Tensor) -> np.ndarray:
        """Images (uint8, N x C x H x W), or their `features` (N x D), to probabilities, float32, N x classes."""
        self.eval()
        device = self.head.weight.device
        batches = [self(batch.to(device)).softmax(1) for batch in images.split(images_at_once(images.shape))]
        return torch.cat(batches).float().cpu().numpy()


def save_classifier(model: Classifier, path: str | os.PathLike) -> None:
    """Write the weights and `model.config` to one safetensors file, atomically."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # Not `save_file`: it writes to a temporary file of its own, which stays if the process is killed.
    data = save(weights, metadata={"synaug": json.dumps(model.config, ensure_ascii=False)})
    with atomic_path(path, len(data)) as temporary:
        temporary.write_bytes(data)


def load_classifier(path: str | os.PathLike) -> Classifier:
    """The network that `save_classifier` wrote, on the CPU. Raises UserError if the file is not such a network."""
    check_regular_file(path)
    try:
        with safe_open(path, "pt") as file:
            model = Classifier(**json.loads(file.metadata()["synaug"]))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:
        raise UserError(f"{path}: is not a classifier of synaug ({error})", advice="delete it and run again") from None
    return model
