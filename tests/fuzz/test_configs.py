"""Damaged config files, seeded: each is a config, or an error of one line. Nothing ends in a traceback or takes long.

SYNAUG_FUZZ_CONFIGS sets the number of damaged files (default: 150).
"""

import copy
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

from synaug.config import check_config_file, load_config
from synaug.runtime.errors import UserError

COUNT = int(os.environ.get("SYNAUG_FUZZ_CONFIGS", "150"))
SECONDS = 20  # of one config; usual are milliseconds
ROOT = Path(__file__).parents[2]
FILES = [ROOT / "config.yaml", *sorted((ROOT / "experiments").glob("*.yaml"))]
# As they are written into the file, each in place of a value.
TEXTS = [
    "", "null", "true", "no", "0", "-1", "1e-3", "1e400", "9" * 30, "9" * 5000, ".inf", "-.inf", ".nan",
    "0x1F", "1_000",
    "12:30:45", "2024-13-45", "2024-01-02", "''", "' '", "'x: y: z'", "'[1, 2'", "'{a: 1'", "'&a *b'", "[]", "{}",
    "[null]", "[[a]]", "{1: 2}", "{'': ''}", "{a: {b: {c: d}}}", "[a, a]", "!!binary eA==", "!!set {a}",
    "!!python/x y",
    "*nowhere", "&a [*a]", "x: y: z", "[1, 2", "{a: 1", "%", "@", "`", "- - -", "\t", "\\u0000", "\ufeff", "\0",
    "[" * 300, "{a: " * 300, "'" + "x" * 100_000 + "'", "{no: Norway}", "<<: {a: 1}", "? [a, b]\n: c", '"\\ud800"',
    "../../etc/passwd", "auto", "{a{b}c}", "!!float 1", "!!omap [a: 1]", "!!timestamp x",
]  # fmt: skip
BOMB = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))])


def places(value, path=()):
    """The location of every value in a config."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


def damaged(config: dict, rng: np.random.Generator) -> str:
    """The text of `config` with one to three damages."""
    config, marks = copy.deepcopy(config), {}
    for number in range(int(rng.integers(1, 4))):
        *path, key = list(places(config))[int(rng.integers(len(list(places(config)))))]
        block = config
        for part in path:
            block = block[part]
        match rng.integers(8):
            case 0:
                del block[key]
            case 1 if isinstance(block, dict):
                block[rng.choice([3, None, True, "x", "x" * 9000, "seed", key])] = copy.deepcopy(block[key])
            case _:
                mark = f"mark{number}mark"
                block[key] = mark
                marks[mark] = str(rng.choice(TEXTS))
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    for mark, value in marks.items():
        text = text.replace(mark, value)
    match rng.integers(12):
        case 0:
            text = f"{BOMB}\n{text}".replace("\nseed:", "\nseed: *a39\nother:")
        case 1:
            place = int(rng.integers(len(text)))
            text = text[:place] + str(rng.choice(list("{}[]:\n\t'\"&*!|>%@`,#-?\0é"))) + text[place + 1 :]
        case 2:
            text = text[: int(rng.integers(len(text)))]
    return text


def outcome(file: Path, text: str) -> str:
    """ok, or the line of a UserError, or that the file is no YAML block (Snakemake reports it)."""
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    check_config_file.cache_clear()
    try:
        check_config_file(file)
        try:
            config = yaml.safe_load(file.read_bytes())
        except Exception:
            return "no YAML"
        if not isinstance(config, dict):
            return "no YAML"
        load_config(config)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 5000
        return str(error)
    return "ok"


@pytest.fixture
def limit():
    """Raises TimeoutError in a call that takes longer than SECONDS."""

    def end(number, frame):
        raise TimeoutError

    signal.signal(signal.SIGALRM, end)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_damaged_configs_end_in_one_line(tmp_path, limit, capsys):
    rng = np.random.default_rng(21)
    configs = [yaml.safe_load(file.read_text()) for file in FILES]
    counts = {"ok": 0, "no YAML": 0, "one line": 0}
    for number in range(COUNT):
        text = damaged(configs[int(rng.integers(len(configs)))], rng)
        limit()
        try:
            result = outcome(tmp_path / "config.yaml", text)
        except BaseException as error:
            raise AssertionError(f"config {number}: {type(error).__name__}: {error}\n{text[:3000]}") from error
        counts[result if result in counts else "one line"] += 1
    with capsys.disabled():
        print(f"\n{COUNT} configs: {counts}")
    assert counts["one line"] > COUNT / 4
