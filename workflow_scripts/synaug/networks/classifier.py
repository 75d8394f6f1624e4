"""Networks: a body that makes features, and a last layer `head`, so that stage 2 knows what to re-train."""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from synaug.networks.pretrained import build_body, load_body
from synaug.networks.resnet import BACKBONES
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path

COSINE_SCALE = 30.0  # Cao et al. 2019


class CosineHead(nn.Linear):
    """Cosine of features and the weights of each class, times COSINE_SCALE: the normalised last layer of LDAM."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """N x inputs to N x outputs, -COSINE_SCALE to COSINE_SCALE."""
        return COSINE_SCALE * F.linear(F.normalize(input), F.normalize(self.weight))


HEADS = {"linear": nn.Linear, "cosine": CosineHead}


class Classifier(nn.Module):
    """Normalisation, body and head. Images go in as uint8, so that nobody has to know how to normalise them."""

    def __init__(
        self, backbone: str, width: int | None, classes: list[str], size: int, channels: int, head: str = "linear"
    ):
        """width: of the networks of this module; None: their usual one. size: side of the images, pixels.

        Raises UserError for a network that does not exist or cannot take images of this size.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))
        if backbone in BACKBONES:
            build, usual_width = BACKBONES[backbone]
            width = width or usual_width
            self.body, features = build(channels, width)
        else:
            self.body, features = build_body(backbone, channels, size)
        self.card = {"backbone": backbone, "width": width, "classes": classes, "size": size, "channels": channels}
        self.card["head"] = head
        self.head = HEADS[head](features, len(classes))

    def load_pretrained(self, weights: bool | str) -> None:
        """Give the body weights that were trained elsewhere, and the normalisation that goes with them.

        weights: True: those of the library, downloaded; or the path of a safetensors file. Raises UserError if they
        cannot be had or do not fit.
        """
        mean, std = load_body(self.body, self.card["backbone"], self.card["channels"], self.card["size"], weights)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def normalise_by(self, images: torch.Tensor) -> None:
        """Set mean and standard deviation per channel (0 to 255) to those of `images`, uint8, N x C x H x W."""
        some = images.float()
        self.mean = some.mean((0, 2, 3), keepdim=True)
        self.std = some.std((0, 2, 3), keepdim=True).clamp_min(1.0)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Images (0 to 255, any type, N x C x H x W) to features, N x D."""
        x = (images.float() - self.mean) / self.std
        return self.body(x.to(memory_format=torch.channels_last))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (0 to 255, any type, N x C x H x W) to logits, N x classes."""
        return self.head(self.features(images))

    @torch.inference_mode()
    def probabilities(self, images: torch.Tensor, batch_size: int = 500) -> np.ndarray:
        """Images (uint8, N x C x H x W) to probabilities, float32, N x classes."""
        self.eval()
        device = self.head.weight.device
        batches = [self(images[i : i + batch_size].to(device)).softmax(1) for i in range(0, len(images), batch_size)]
        return torch.cat(batches).float().cpu().numpy()


def save_classifier(model: Classifier, path: str | os.PathLike) -> None:
    """Write weights and what is needed to build the network again to one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()},
            temporary,
            metadata={"synaug": json.dumps(model.card, ensure_ascii=False)},
        )


def load_classifier(path: str | os.PathLike) -> Classifier:
    """Build the network of `save_classifier` again, on the CPU. Raises UserError if it is not such a file."""
    try:
        with safe_open(path, "pt") as file:
            model = Classifier(**json.loads(file.metadata()["synaug"]))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:
        raise UserError(f"{path}: is no classifier of synaug ({error})", advice="delete it and run again") from None
    return model
