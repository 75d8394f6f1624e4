"""Which devices a machine has."""

import pytest

from synaug.runtime.devices import available_devices


def test_gpus_are_counted_without_initialising_cuda(monkeypatch):
    monkeypatch.delenv("SYNAUG_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("this initialises CUDA"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert available_devices() == ["cuda:0", "cuda:1"]
