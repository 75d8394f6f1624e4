"""Exponential moving average of weights, with a warm-up."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class EMA(AveragedModel):
    """The average of the weights of a network, whose decay after n updates is min(decay, (1 + n) / (10 + n)).

    The formula is that of TensorFlow's ExponentialMovingAverage. Without it, a decay of 0.999 would leave 55 % of the
    weight on the first, untrained weights after 600 steps. use_buffers: buffers are averaged too, but for whole numbers
    (batch counters), which are copied; else all buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float, *, use_buffers: bool = False) -> None:
        super().__init__(model, use_buffers=use_buffers)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`; the first call copies them."""
        count = int(self.n_averaged)  # it is on the CPU; `AveragedModel` would copy it to a GPU and wait for that
        pairs = [(old, new, True) for old, new in zip(self.module.parameters(), model.parameters(), strict=True)]
        for old, new in zip(self.module.buffers(), model.buffers(), strict=True):
            pairs.append((old, new, self.use_buffers and old.is_floating_point()))
        copied = [(old, new) for old, new, averaged in pairs if count == 0 or not averaged]
        if copied:
            torch._foreach_copy_(*map(list, zip(*copied, strict=True)))
        if count:
            averaged = [(old, new) for old, new, averaged in pairs if averaged]
            weight = 1 - min(self.decay, (1 + count) / (10 + count))
            torch._foreach_lerp_(*map(list, zip(*averaged, strict=True)), weight)
        self.n_averaged += 1
