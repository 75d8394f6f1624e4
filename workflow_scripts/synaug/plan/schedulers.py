"""Schedulers of diffusers: their names and options, and whether one suits a model.

Names and options are read from the text of the package, because its import takes seconds.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from synaug.runtime.errors import UserError

_FLOW_OPTIONS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def scheduler_settings(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of the column `scheduler` of the manifest `plan`, which is not empty here."""
    if not text.startswith("{"):
        return text, {}
    options = json.loads(text)
    return options.pop("name"), options


def check_scheduler(text: str) -> None:
    """Raise UserError if diffusers has no such scheduler, or if the scheduler has no such option or value of it.

    text: as the column `scheduler` of the manifest `plan`; empty: that of the checkpoint. Without the package diffusers
    nothing is checked: the scheduler is loaded in another environment, which checks again.
    """
    folder = _folder_of_schedulers()
    if not text or folder is None:
        return
    name, options = scheduler_settings(text)
    names = set(re.findall(r"\"(\w+Scheduler)\"", (folder / "__init__.py").read_text(encoding="utf-8")))
    names = {known for known in names if not known.startswith("Flax")}
    if name not in names:
        similar = get_close_matches(name, sorted(names), n=1)
        raise UserError(
            f"generation.scheduler: diffusers has no scheduler {name!r}",
            advice=f"did you mean {similar[0]!r}?" if similar else f"choose one of {', '.join(sorted(names))}",
        )
    known = _options(name) if options else {}
    for option, value in options.items():
        if option not in known:
            similar = get_close_matches(option, sorted(known), n=1)
            raise UserError(
                f"generation.scheduler: {name} has no option {option!r}",
                advice=f"did you mean {similar[0]!r}?" if similar else f"its options are {', '.join(sorted(known))}",
            )
        choices = known[option].choices
        if choices and value not in choices:
            raise UserError(
                f"generation.scheduler: {option} of {name} is {value!r}",
                advice=f"choose one of {', '.join(map(str, choices))}",
            )


def check_flow_matching(model: str, own_name: str, own_config: Mapping[str, Any], text: str) -> None:
    """Raise UserError if the scheduler `text` is for diffusion and the model `model` for flow matching, or the reverse.

    Such a scheduler raises no error: the images are wrong. own_name, own_config: class and config of the scheduler of
    the checkpoint. text: as in `check_scheduler`.
    """
    if not text:
        return
    name, options = scheduler_settings(text)
    config = _config(name, own_config) | options
    own_kind = _kind(own_name, _config(own_name, own_config) if _options(own_name) else own_config)
    kind = _kind(name, config)
    can_both = set(_FLOW_OPTIONS) <= set(config)
    purpose = f"generation.scheduler: {name} is {'set to' if can_both else 'for'}"
    if own_kind in ("flow", "half") and kind in ("diffusion", "half"):
        words = ", ".join(f"{option}: {json.dumps(value)}" for option, value in _FLOW_OPTIONS.items())
        raise UserError(
            f"{purpose} diffusion, and {model} is a flow-matching model",
            advice=f"add its options {words}, or leave the scheduler out" if can_both else "leave it out",
        )
    if own_kind == "diffusion" and kind in ("flow", "half"):
        raise UserError(
            f"{purpose} flow matching, and {model} is a diffusion model", advice="choose another one, or leave it out"
        )


def _config(name: str, own_config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the scheduler `name` in place of one with `own_config`: see `SchedulerMixin.from_config`."""
    unset = own_config.get("_use_default_values") or []
    return {
        key: own_config[key] if key in own_config and key not in unset else option.default
        for key, option in _options(name).items()
    }


def _kind(name: str, config: Mapping[str, Any]) -> Literal["flow", "half", "diffusion"] | None:
    """What the scheduler takes the output of the model for; half: only one of the two options says flow; None: unknown.

    config: the options of the scheduler with their values.
    """
    if name.startswith("FlowMatch"):
        return "flow"
    flow = [config.get(option) == value for option, value in _FLOW_OPTIONS.items()]
    if any(flow):
        return "flow" if all(flow) else "half"
    return "diffusion" if config.get("prediction_type") in ("epsilon", "sample", "v_prediction") else None


def _folder_of_schedulers() -> Path | None:
    package = find_spec("diffusers")
    return None if package is None or package.origin is None else Path(package.origin).parent / "schedulers"


@dataclass(frozen=True)
class _Option:
    """An option of a scheduler. choices: empty: any value. A default that is not a plain value is None."""

    default: Any
    choices: tuple


@cache
def _options(name: str) -> dict[str, _Option]:
    """The options of the scheduler `name`; empty: not known. Do not change the result."""
    folder = _folder_of_schedulers()
    for file in sorted(folder.rglob("*.py")) if folder else []:
        text = file.read_text(encoding="utf-8")
        if f"class {name}(" not in text:
            continue
        for block in ast.walk(ast.parse(text)):
            if isinstance(block, ast.ClassDef) and block.name == name:
                for function in block.body:
                    if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                        arguments = function.args.args[1:]  # without self
                        defaults = [None] * (len(arguments) - len(function.args.defaults)) + function.args.defaults
                        return {
                            argument.arg: _Option(_value(default), _choices(argument.annotation))
                            for argument, default in zip(arguments, defaults, strict=True)
                        }
    return {}


def _choices(annotation: ast.expr | None) -> tuple:
    """The values in an annotation `Literal[...]`; empty: another annotation."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        values = _value(annotation.slice)
        return values if isinstance(values, tuple) else (values,)
    return ()


def _value(expression: ast.expr | None) -> Any:
    """The value of a constant expression; None: it is none."""
    try:
        return None if expression is None else ast.literal_eval(expression)
    except ValueError:
        return None
