"""The own SGD changes weights as the SGD of torch does."""

import pytest
import torch
from torch import nn

from synaug.training.optimizer import MOMENTUM, make_optimizer

STEPS = 6


def network() -> nn.Module:
    """A network whose last layer has no gradient in the first step (see `train`)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 3), nn.Linear(36, 3))


def groups_of(model: nn.Module) -> list[dict]:
    return [{"params": list(model[:2].parameters()), "factor": 0.1}, {"params": list(model[3:].parameters())}]


def train(model: nn.Module, optimizer, steps: range) -> list[torch.Tensor]:
    images = torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (STEPS - step) * group.get("factor", 1.0)
        features = model[:3](images)
        logits = model[3](features) + (model[4](features) if step else 0)
        optimizer.zero_grad()
        logits.square().mean().backward()
        optimizer.step()
    return list(model.parameters())


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
def test_sgd_is_that_of_torch_bit_for_bit(weight_decay):
    ours, theirs = network(), network()
    theirs_optimizer = torch.optim.SGD(groups_of(theirs), 0.1, MOMENTUM, weight_decay=weight_decay, nesterov=True)
    got = train(ours, make_optimizer(groups_of(ours), "sgd", 0.1, weight_decay), range(STEPS))
    wanted = train(theirs, theirs_optimizer, range(STEPS))
    assert all(torch.equal(*pair) for pair in zip(got, wanted, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(got, network().parameters(), strict=True))


def test_sgd_continues_from_its_state():
    model = network()
    optimizer = make_optimizer(groups_of(model), "sgd", 0.1, 5e-4)
    train(model, optimizer, range(3))
    continued = network()
    continued.load_state_dict(model.state_dict())
    continued_optimizer = make_optimizer(groups_of(continued), "sgd", 0.1, 5e-4)
    continued_optimizer.load_state_dict(optimizer.state_dict())
    rest = range(3, STEPS)
    got, wanted = train(continued, continued_optimizer, rest), train(model, optimizer, rest)
    assert all(torch.equal(*pair) for pair in zip(got, wanted, strict=True))
