"""The small residual networks have the sizes of their papers."""

import torch

from synaug.networks.classifier import Classifier


def test_resnet32_is_the_one_of_the_paper():
    model = Classifier("resnet32", None, [str(i) for i in range(10)], 32, 3)
    assert sum(weight.numel() for weight in model.parameters()) == 464_154  # 0.46 million, He et al. 2016, table 6
    assert sum(isinstance(module, torch.nn.Conv2d) for module in model.modules()) == 31
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
