"""A hub to upload to."""

import pytest

from hub_server import WRITER, Hub


@pytest.fixture
def empty_hub(tmp_path, monkeypatch) -> Hub:
    """A hub without repositories, which is that of this process. The user `people` is logged in."""
    (tmp_path / "hub").mkdir()
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub
