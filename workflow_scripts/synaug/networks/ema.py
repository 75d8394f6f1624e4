"""Exponential moving average of weights, with a warm-up."""

from collections.abc import Callable

import torch


def ema_with_warm_up(decay: float) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor], None]:
    """The `multi_avg_fn` of an `AveragedModel` whose decay after n updates is min(decay, (1 + n) / (10 + n)).

    The formula is that of TensorFlow's ExponentialMovingAverage. Without it, a decay of 0.999 would leave 55 % of the
    weight on the first, untrained weights after 600 steps. Whole numbers (batch counters) are copied.
    """

    @torch.no_grad()
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
        count = updates.item()
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + count) / (10 + count)))
        else:
            torch._foreach_copy_(averaged, current)

    return update
