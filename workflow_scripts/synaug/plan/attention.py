"""The names of the attention backends of diffusers."""

import re
from importlib.util import find_spec
from pathlib import Path

from synaug.runtime.errors import UserError


def check_attention(backend: str) -> None:
    """Raise UserError if diffusers has no attention backend `backend`, or if it must not be used; empty: the default.

    Refused are backends that round to 8 bits, because they change more of an image than its last bits and are not part
    of its id, and backends whose code diffusers downloads from the hub.
    The names are read from the text of diffusers, because its import takes seconds. Without the package nothing is
    checked: the model is loaded in another environment, which checks again.
    """
    package = find_spec("diffusers")
    if not backend or package is None or package.origin is None:
        return
    text = (Path(package.origin).parent / "models" / "attention_dispatch.py").read_text(encoding="utf-8")
    block = text.partition("class AttentionBackendName(")[2].partition("\nclass ")[0]
    names = re.findall(r"^    \w+ = \"(\w+)\"", block, re.MULTILINE)
    usable = [name for name in names if not name.endswith("_hub") and "sage" not in name]
    if backend in usable:
        return
    if backend not in names:
        problem = "diffusers has no such backend"
    elif backend.endswith("_hub"):
        problem = "diffusers would download and run code for it"
    else:
        problem = "it rounds to 8 bits and makes other images"
    raise UserError(f"generation.attention: {backend!r}: {problem}", advice=f"choose one of {', '.join(usable)}")
