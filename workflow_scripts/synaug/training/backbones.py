"""Networks: a body that makes features, and a last layer `head`, so that stage 2 knows what to re-train."""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from synaug.errors import UserError
from synaug.manifests import atomic_path
from synaug.training.libraries import build_body, load_body

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


class Block(nn.Module):
    """Residual block of two 3 x 3 convolutions (He et al. 2016), halving the resolution if `stride` is 2.

    shortcut: None for a 1 x 1 convolution where resolution or channels change.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module | None = None):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut or nn.Identity()
        if shortcut is None and (stride != 1 or inputs != outputs):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x inputs x H x W to N x outputs x H/stride x W/stride."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet8(channels: int, width: int) -> tuple[nn.Module, int]:
    """Three residual blocks for small images, and the number of their features; two cores train it in a minute.

    The stem halves the resolution at once: at full resolution it would take most of the time.
    """
    body = nn.Sequential(
        nn.Conv2d(channels, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return body, 4 * width


class ZeroPadding(nn.Module):
    """A shortcut without weights: every `stride`-th pixel, and zeros for `new` more channels (the paper's option A)."""

    def __init__(self, new: int, stride: int):
        super().__init__()
        self.new, self.stride = new, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to N x (C + new) x H/stride x W/stride."""
        before = self.new // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new - before))


def resnet32(channels: int, width: int) -> tuple[nn.Module, int]:
    """The ResNet-32 for CIFAR (He et al. 2016, 4.2): 15 blocks, and the number of its features.

    With width 16 it has 464,154 parameters, the last layer for 10 classes and colour images included.
    """
    layers = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(3):
        for block in range(5):
            outputs, stride = width << stage, 2 if stage and not block else 1
            layers.append(Block(inputs, outputs, stride, ZeroPadding(outputs - inputs, stride)))
            inputs = outputs
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return body, 4 * width


# Name -> how to build it, and its usual width.
BACKBONES = {"resnet8": (resnet8, 32), "resnet32": (resnet32, 16)}


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
        raise UserError(f"{path}: is no classifier of synaug ({error}); delete it and run again") from None
    return model
