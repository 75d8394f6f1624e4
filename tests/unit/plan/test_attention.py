"""The names of attention backends that a config may give."""

import pytest

from synaug.plan.attention import check_attention
from synaug.runtime.errors import UserError


@pytest.mark.parametrize("backend", ["", "native", "flash", "_flash_3", "_native_cudnn", "xformers"])
def test_backends_of_diffusers_are_accepted(backend):
    check_attention(backend)


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("flash3", "diffusers has no such backend"),
        ("sage", "it rounds to 8 bits and makes other images"),
        ("flash_hub", "diffusers would download and run code for it"),
    ],
)
def test_others_are_refused_with_the_list(backend, reason):
    with pytest.raises(UserError) as error:
        check_attention(backend)
    message = str(error.value)
    assert message.startswith(f"generation.attention: {backend!r}: {reason}; choose one of flash, ")
    assert "native" in message and "sage" not in message.partition(";")[2] and "_hub" not in message.partition(";")[2]
