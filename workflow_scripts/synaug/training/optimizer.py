"""The optimisers of stage 1 and stage 2."""

from collections.abc import Iterable

import torch

MOMENTUM = 0.9


class SGD:
    """SGD with Nesterov momentum: `torch.optim.SGD(..., momentum=0.9, nesterov=True)`, bit for bit.

    The optimisers of torch import its compiler at their first use. That takes more than a second, a third of what a
    training job imports before its first step.
    groups: of parameters, each a dict with the key `params`, and with any others.
    """

    def __init__(self, groups: Iterable[dict], learning_rate: float, weight_decay: float) -> None:
        self.defaults = {"lr": learning_rate, "weight_decay": weight_decay}
        self.param_groups = [self.defaults | group | {"params": list(group["params"])} for group in groups]
        self.momentum = {parameter: torch.zeros_like(parameter) for parameter in self._parameters()}

    def _parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            gradients = [parameter.grad for parameter in parameters]
            momenta = [self.momentum[parameter] for parameter in parameters]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            torch._foreach_mul_(momenta, MOMENTUM)
            torch._foreach_add_(momenta, gradients)
            directions = torch._foreach_add(gradients, momenta, alpha=MOMENTUM)
            torch._foreach_add_(parameters, directions, alpha=-group["lr"])

    def state_dict(self) -> dict:
        """What decides the next steps, but for the parameters and their groups."""
        return {"momentum": [self.momentum[parameter] for parameter in self._parameters()]}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a `state_dict`, with the same parameters in the same order."""
        for parameter, momentum in zip(self._parameters(), state["momentum"], strict=True):
            self.momentum[parameter].copy_(momentum)


Optimizer = SGD | torch.optim.AdamW


def make_optimizer(groups: Iterable[dict], name: str, learning_rate: float, weight_decay: float) -> Optimizer:
    """sgd: SGD with Nesterov momentum. adamw: AdamW (decoupled weight decay).

    groups: of parameters: dicts with the keys `params` and `factor` (of the learning rate, see `training_loop`; 1 if
    there is none).
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, learning_rate, weight_decay=weight_decay)
    return SGD(groups, learning_rate, weight_decay)
