"""The moving average of weights does not make the CPU wait for the device."""

import torch
from torch import nn

from synaug.networks.ema import EMA


def test_an_update_reads_nothing_from_the_device():
    """Tensors on the device `meta` have no values: whatever reads one raises an error."""
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).to("meta")
    for use_buffers in (False, True):
        average = EMA(network, 0.9, use_buffers=use_buffers)
        for _ in range(3):
            average.update_parameters(network)
        assert average.n_averaged.item() == 3


def test_buffers_are_averaged_or_copied_and_counters_always_copied():
    network = nn.BatchNorm1d(2)
    for use_buffers, expected in ((False, 8.0), (True, 6.5454545)):  # after one update, the decay is 2 / 11
        network.running_mean.fill_(0.0)
        average = EMA(network, 0.9, use_buffers=use_buffers)
        average.update_parameters(network)
        network.running_mean.fill_(8.0)
        network.num_batches_tracked.fill_(7)
        average.update_parameters(network)
        torch.testing.assert_close(average.module.running_mean, torch.full((2,), expected))
        assert average.module.num_batches_tracked == 7
