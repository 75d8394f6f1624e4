"""docs/reference/errors.md has every error of the code, and every error says what to do."""

import html
import re
from pathlib import Path

import pytest

from synaug.config import Prompts, load_config
from synaug.config.generation import Adapter
from synaug.datasets.detect import detect
from synaug.error_messages import RULES, SCRIPTS, error_messages, has_fixed_words
from synaug.manifests import read_manifest
from synaug.networks.pretrained import check_backbone
from synaug.plan.checkpoints import adapter_files, model_files
from synaug.plan.prompts import prompt_files
from synaug.reference import errors_page
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file

MESSAGES = error_messages()
CONFIG = {
    "experiment": "e",
    "dataset": {"source": "folder", "path": "images", "image_size": 28},
    "generation": {"model": "m"},
    "recipes": {"plain": {"data": "real"}},
}
# Calls that a mistake of the user makes fail: messages from a constant, a variable, a branch and a helper function.
MISTAKES = {
    "unknown key": lambda: load_config({**CONFIG, "sede": 1}),
    "missing key": lambda: load_config({**CONFIG, "dataset": {"source": "folder", "path": "images"}}),
    "wrong type": lambda: load_config({**CONFIG, "seeds": "many"}),
    "out of range": lambda: load_config({**CONFIG, "training": {"steps": -1}}),
    "key without effect": lambda: load_config({**CONFIG, "training": {"deferred": 0.5}}),
    "no text": lambda: load_config({**CONFIG, "experiment": " "}),
    "no label": lambda: load_config({**CONFIG, "prompts": {"templates": ["a photo"]}}),
    "no fill": lambda: load_config({**CONFIG, "recipes": {"plain": {"data": "balanced", "fill": {"name": "x"}}}}),
    "similar network": lambda: check_backbone("torchvision/resnet19"),
    "no network": lambda: check_backbone("torchvision/zzzzzzzzzz"),
    "no manifest": lambda: read_manifest("real", "gone.parquet"),
    "no model": lambda: model_files("someone/model", None),
    "no adapter": lambda: adapter_files(Adapter(kind="lora", model="someone/adapter")),
    "no table of prompts": lambda: prompt_files(Prompts(file="gone.csv")),
    "no table of names": lambda: prompt_files(Prompts(names="gone.csv")),
    "no data": lambda: detect(Path("gone"), None, None, None, []),
    "a device": lambda: check_regular_file("/dev/null"),
}


def matches(template: str, text: str) -> bool:
    """Whether `text` is `template` with something in place of its <words>."""
    fixed = re.split(r"<[^<>]*>", template)
    return re.fullmatch(".*".join(map(re.escape, fixed)), text) is not None


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, list[str]]]:
    """(message, advices) of every row of the page, as a browser shows them."""
    rows = []
    for message, advices in re.findall(r"^\| `+ ?(.+?) ?`+ \| (.*) \|$", errors_page(), re.MULTILINE):
        texts = [html.unescape(advice.replace("\\", "")) for advice in advices.split("<br>or: ")]
        rows.append((message.replace("\\|", "|"), texts))
    return rows


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_message_of_a_mistake_is_on_the_page_with_its_advice(rows, mistake):
    with pytest.raises(UserError) as error:
        MISTAKES[mistake]()
    line = str(error.value).removeprefix("config: ")
    for message, advices in rows:
        texts = [message if advice == "as the message says" else f"{message}; {advice}" for advice in advices]
        if any(matches(f"<...>{text}", line) for text in texts):
            return
    pytest.fail(f"not on the page: {line}")


def test_no_error_of_the_code_is_left_out():
    places = set()
    for path in [*SCRIPTS.rglob("*.py"), *RULES.glob("*.smk")]:
        module = path.relative_to(RULES.parent).with_suffix("").as_posix().removeprefix("workflow_scripts/")
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"(?<!class )UserError\(", line):
                places.add(f"{module}:{number}")
    assert len(places) > 250
    assert places <= {message.place for message in MESSAGES}


def test_every_error_says_what_to_do():
    for message in MESSAGES:
        # One without fixed words repeats another error; "should be" names the right value.
        if has_fixed_words(message.problem) and "should be" not in message.problem:
            assert message.advice, f"{message.place}: give the UserError an advice"


def test_messages_with_the_same_condition_keep_their_advice(rows):
    advices = dict(rows)
    assert advices["pretrained: the weights of <backbone> do not fit (<reason>)"] == ["give weights of <backbone>"]
