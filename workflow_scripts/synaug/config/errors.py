"""The message for a config that pydantic refuses: one line with each wrong key, its value, and what is allowed."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, get_args, get_origin

from synaug.config.base import Block

# Type of pydantic's error -> what the value should be, in the words of docs/reference/config.md.
_EXPECTED = {
    "bool_type": "should be true or false",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "string_type": "should be text",
    "list_type": "should be a list",
    "dict_type": "should be a block of keys",
    "model_type": "should be a block of keys",
    "greater_than": "should be above {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be below {lt}",
    "less_than_equal": "should be at most {le}",
    "multiple_of": "should be a multiple of {multiple_of}",
    "string_pattern_mismatch": "should match the pattern {pattern}",
    "string_too_long": "should have at most {max_length} characters",
    "too_short": "should not be empty",
}

# Of a config with many faults, the first ones are described.
_MOST_FAULTS = 10


def describe(faults: Sequence[Mapping[str, Any]], config: dict[str, Any], top: type[Block]) -> str:
    """The `faults` of `config`, separated by semicolons; of many the first ones.

    top: the class that `config` was checked against.
    """
    subjects: dict[str, str] = {}
    problems: dict[str, list[str]] = {}  # of each key; several if it may have several types, and the value fits none
    for fault in faults[: 10 * _MOST_FAULTS]:  # several faults can be about one key
        key = _key(fault, config)
        subjects[key] = _subject(key, fault)
        problems.setdefault(key, []).append(_problem(fault, top))
    # Of a value with a fault inside, such as a list with a wrong number, only the inner fault is reported.
    keys = [key for key in problems if not any(other.startswith(f"{key}.") for other in problems)]
    described = [subjects[key] + _alternatives(problems[key]) for key in keys[:_MOST_FAULTS]]
    if len(keys) > _MOST_FAULTS:
        described.append("and more faults")
    return "; ".join(described)


def _key(fault: Mapping[str, Any], config: dict[str, Any]) -> str:
    """The key with a fault, as `block.key`.

    The location in `fault` also holds names of types, where a value may have one of several: these are left out.
    """
    parts, value = [], config
    for part in fault["loc"]:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        parts.append(str(part))
    if fault["type"] == "missing":
        parts.append(str(fault["loc"][-1]))
    return ".".join(parts)


def _subject(key: str, fault: Mapping[str, Any]) -> str:
    """`key: value: `, without the value where the problem is not the value as such."""
    if not key:
        return ""
    of_a_block = fault["type"] == "value_error" and isinstance(fault["input"], dict)
    if fault["type"] in ("extra_forbidden", "missing") or of_a_block:
        return f"{shortened(key)}: "
    return f"{shortened(key)}: {shortened(repr(fault['input']))}: "


def _problem(fault: Mapping[str, Any], top: type[Block]) -> str:
    match fault["type"]:
        case "extra_forbidden":
            return f"unknown key; allowed here: {', '.join(_allowed_keys(fault['loc'][:-1], top))}"
        case "missing":
            return "is missing and has no default; add it"
        case known if known in _EXPECTED:
            limits = fault.get("ctx", {})
            expected = _EXPECTED[known].format(**{name: _plain(limit) for name, limit in limits.items()})
            return expected + _quotes_needed(fault["input"]) if known == "string_type" else expected
        case _:
            return shortened(fault["msg"].removeprefix("Value error, ").replace("Input should", "should"), 400)


def _quotes_needed(value: Any) -> str:
    """Advice for a value that was meant as a text, and is something else in YAML."""
    if isinstance(value, bool):
        return ", and yes, no, on, off, true and false are none without quotes"
    return "; put it into quotes" if isinstance(value, (int, float, date)) else ""


def shortened(text: str, length: int = 80) -> str:
    """`text` on one line, cut to `length` characters."""
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _plain(limit: Any) -> Any:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _alternatives(problems: list[str]) -> str:
    first, *others = problems
    return " or ".join([first, *(problem.removeprefix("should be ") for problem in others)])


def _allowed_keys(location: tuple[str | int, ...], top: type[Block]) -> list[str]:
    """The keys that the block at `location` may have."""
    annotation: Any = top
    for part in location:
        if get_origin(annotation) in (dict, list):  # `part` is a name that the user chose, or a position
            annotation = get_args(annotation)[-1]
        else:
            annotation = annotation.model_fields[part].annotation
            if type(None) in get_args(annotation):  # a block or null
                annotation = get_args(annotation)[0]
    return sorted(annotation.model_fields)
