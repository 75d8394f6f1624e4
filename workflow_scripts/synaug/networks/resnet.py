"""The small residual networks for small images: resnet8 and resnet32."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Residual block of two 3 x 3 convolutions (He et al. 2016). It halves the resolution if `stride` is 2.

    shortcut: None: a 1 x 1 convolution if the resolution or the channels change, else the identity.
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
    """Three residual blocks, and their number of features. Two CPU cores train it in a minute.

    The stem halves the resolution, because the first block would take most of the time at full resolution.
    """
    body = nn.Sequential(
        nn.Conv2d(channels, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.MaxPool2d(2),  # before the ReLU: the same values, from a quarter of the pixels
        nn.ReLU(),
        Block(width, width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return body, 4 * width


class ZeroPadding(nn.Module):
    """A shortcut without weights: every `stride`-th pixel, and `added` channels of zeros (option A of the paper)."""

    def __init__(self, added: int, stride: int):
        super().__init__()
        self.added, self.stride = added, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to N x (C + added) x H/stride x W/stride."""
        before = self.added // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))


def resnet32(channels: int, width: int) -> tuple[nn.Module, int]:
    """The ResNet-32 for CIFAR (He et al. 2016, section 4.2): 15 blocks, and their number of features.

    With width 16, colour images and a last layer for 10 classes it has 464,154 parameters.
    """
    layers = [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for stage in range(3):
        for block in range(5):
            outputs = width * 2**stage
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Block(inputs, outputs, stride, ZeroPadding(outputs - inputs, stride)))
            inputs = outputs
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return body, 4 * width


# Name -> function that builds the body, and the default width.
RESNETS = {"resnet8": (resnet8, 32), "resnet32": (resnet32, 16)}
