"""Write the files that are generated from the code: config.schema.json (for editors) and docs/reference/.

python -m synaug.reference
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from typer.main import get_command

from synaug.cli import app
from synaug.config import Config
from synaug.manifests import SORT_KEYS
from synaug.manifests.schemas import SCHEMAS

# Manifest -> one row per what, and the files of this kind with the rules that make them.
# {results}: results/<experiment>.
_NETWORK_FOLDERS = ("{results}/train/<recipe>/<seed>", "train"), ("{results}/finetune/<recipe>/<seed>", "finetune")
FILES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "real": ("real image of the splits that are used", [("{results}/real.parquet", "index_dataset")]),
    "imbalance": (
        "cell, that is class, or class in a group; with groups also per class and per group; and one summary",
        [("{results}/imbalance.parquet", "measure_imbalance")],
    ),
    "plan": ("synthetic image that is wanted", [("{results}/plan.parquet", "plan_generation")]),
    "shard": (
        "synthetic image, with its provenance",
        [
            ("{results}/shards/<shard>.parquet", "generate_shard"),
            ("{results}/preview.parquet", "preview_images"),
            ("{results}/probe_images.parquet", "generate_probe_images"),
        ],
    ),
    "scores": ("synthetic image of the plan, before the verdict", [("{results}/scores.parquet", "score_synthetic")]),
    "features": (
        "real training image, and synthetic image, that a network read",
        [("{results}/features.parquet", "score_synthetic")],
    ),
    "synthetic": (
        "synthetic image of the plan, with the verdict",
        [("{results}/synthetic.parquet", "screen_synthetic")],
    ),
    "quality": ("class and figure", [("{results}/quality.parquet", "measure_quality")]),
    "balanced": ("training image, real or synthetic", [("{results}/balanced.parquet", "build_balanced_manifest")]),
    "packed": (
        "training image; only above 64 pixels, and deleted when all networks are trained",
        [("{results}/packed/index.parquet", "pack_images")],
    ),
    "history": (
        "point of a training",
        [(f"{folder}/history.parquet", rule) for folder, rule in _NETWORK_FOLDERS],
    ),
    "predictions": (
        "test image, and validation image if there are any",
        [(f"{folder}/predictions.parquet", rule) for folder, rule in _NETWORK_FOLDERS],
    ),
    "metrics": (
        "network and figure",
        [
            ("{results}/metrics.parquet", "evaluate"),
            ("{results}/domain_probes.parquet", "probe_domains"),
            ("{results}/shortcuts.parquet", "probe_shortcuts"),
        ],
    ),
    "differences": (
        "recipe, stage, baseline and figure",
        [("{results}/differences.parquet", "evaluate")],
    ),
    "summary": ("recipe, stage and figure", [("{results}/summary.parquet", "summarise")]),
    "selection": ("method and criterion", [("{results}/selection.parquet", "select_settings")]),
    "study": ("row of `summary` of a variant", [("{results}/study.parquet", "summarise_study")]),
    "study_differences": (
        "row of `differences` of a variant",
        [("{results}/study_differences.parquet", "summarise_study")],
    ),
    "study_selection": (
        "row of `selection` of a variant",
        [("{results}/study_selection.parquet", "summarise_study")],
    ),
}
_MADE = "<!-- Written by `python -m synaug.reference`; changes here are lost. -->"


def _row(*cells: str) -> str:
    """A row of a Markdown table; what is not in backquotes is text, whatever it holds."""
    escaped = []
    for cell in cells:
        parts = cell.split("`")
        parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
        escaped.append("`".join(parts).replace("|", "\\|"))
    return f"| {' | '.join(escaped)} |"


def config_page() -> str:
    """docs/reference/config.md: each key of each block of the config, in Markdown."""
    schema = Config.model_json_schema()
    lines = [
        _MADE,
        "# The config",
        "",
        "Every key of an experiment, in the order of [config.yaml](../../config.yaml), which shows them in use and "
        "says more. Units stand with the meaning: sizes are pixels, amounts are images or optimiser steps. An "
        "unknown key is an error, and so is a value of another type. "
        "[config.schema.json](../../config.schema.json) is the same for editors.",
    ]
    described: dict[str, str] = {}
    # Breadth would tear blocks from their parents: depth, each model where it is met first.
    _describe_block(schema, schema["$defs"], "", described, lines)
    return "\n".join(lines) + "\n"


def _describe_block(block: dict, models: dict, path: str, described: dict[str, str], lines: list[str]) -> None:
    about = " ".join(block["description"].split()) if path else ""
    lines += ["", f"## {f'`{path}`' if path else 'Top level'}", ""] + ([about, ""] if about else [])
    lines += ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    inside = []
    for key, field in block["properties"].items():
        below = f"{path}.{key}" if path else key
        ref = _model_of(field)
        if ref and ref not in described:
            described[ref] = f"{below}.<name>" if _named(field) else below
            inside.append((ref, described[ref]))
        meaning = field.get("description") or " ".join(models[ref]["description"].split())
        lines.append(_row(f"`{key}`", _type(field, described), _default(key, field, block), _range(field), meaning))
    for ref, below in inside:
        _describe_block(models[ref], models, below, described, lines)


def _choices(field: dict) -> list[dict]:
    """The types that a value may have, null left out."""
    return [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]


def _model_of(field: dict) -> str | None:
    """Name of the block that the field holds, or a list, or names, of such blocks; None: it holds plain values."""
    for one in _choices(field):
        for place in (one, one.get("items"), _named(one)):
            if isinstance(place, dict) and "$ref" in place:
                return place["$ref"].rpartition("/")[2]
    return None


def _named(field: dict) -> dict | None:
    """What stands under names that the user chooses, if that is what the field holds."""
    values = next(iter(field.get("patternProperties", {}).values()), None) or field.get("additionalProperties")
    return values if isinstance(values, dict) else None


def _type(field: dict, described: dict[str, str]) -> str:
    names = [_name(one, described) for one in _choices(field)]
    return " or ".join(names) + (" or null" if len(_choices(field)) < len(field.get("anyOf", [field])) else "")


def _name(field: dict, described: dict[str, str]) -> str:
    if "$ref" in field:
        where = described[field["$ref"].rpartition("/")[2]]
        return f"block [{where}](#{where.replace('.', '').replace('<', '').replace('>', '')})"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{one}`" for one in field.get("enum", [field.get("const")]))
    match field.get("type"):
        case "array":
            items = _name(field["items"], described)
            return f"list of {items}s" if items.endswith("number") else f"list of {items}"
        case "object":
            values = _named(field)
            return f"name: {_name(_choices(values)[0], described)}" if values else "block of keys"
        case None:
            return "anything"
        case kind:
            plain = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
            return plain[kind]


def _default(key: str, field: dict, block: dict) -> str:
    if key in block.get("required", []):
        return "required"
    value = field["default"]
    if isinstance(value, dict) and value:
        return "as in the block"
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case "":
            return "empty"
        case _:
            return f"`{value}`"


def _range(field: dict) -> str:
    found = []
    for one in _choices(field):
        limits = {
            "minimum": "at least {}",
            "exclusiveMinimum": "above {}",
            "maximum": "at most {}",
            "exclusiveMaximum": "below {}",
            "multipleOf": "a multiple of {}",
            "minItems": "at least {} item",
            "minProperties": "at least {} name",
        }
        for place in (one, one.get("items", {})):
            said = [text.format(_number(place[key])) for key, text in limits.items() if key in place]
            found.append(", ".join(said))
        if "pattern" in one:
            found.append(f"`{one['pattern']}`")
    return "; ".join(filter(None, found))


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else "2^32" if value == 2**32 else f"{value:g}"


def manifests_page() -> str:
    """docs/reference/manifests.md: each manifest and each of its columns, in Markdown."""
    lines = [
        _MADE,
        "# The manifests",
        "",
        "Every table between two steps is a Parquet file below `results/<experiment>/`. Rows are sorted by the columns "
        "named, and the same rows give the same bytes. Units and ranges stand with the meaning, which the file itself "
        'holds too: `pyarrow.parquet.read_schema(path).field("seed").metadata`. Columns and file names are interfaces; '
        "they change only with a line in [CHANGELOG.md](../../CHANGELOG.md).",
        "",
        "| manifest | file | made by rule | one row per |",
        "|---|---|---|---|",
    ]
    for kind in SCHEMAS:
        about, files = FILES[kind]
        for path, rule in files:
            name = path.replace("{results}", "results/<experiment>")
            lines.append(f"| [{kind}](#{kind}) | `{name}` | `{rule}` | {about} |")
    for kind, schema in SCHEMAS.items():
        lines += ["", f"## {kind}", "", f"One row per {FILES[kind][0]}. Sorted by {_listed(SORT_KEYS[kind])}.", ""]
        lines += ["| column | type | null | meaning |", "|---|---|---|---|"]
        for field in schema:
            about = field.metadata[b"about"].decode()
            lines.append(_row(f"`{field.name}`", _arrow(field.type), "yes" if field.nullable else "", about))
    return "\n".join(lines) + "\n"


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _arrow(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return "string"
    if pa.types.is_list(kind):
        return f"list of {_arrow(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "struct of " + ", ".join(f"{one.name} ({_arrow(one.type)})" for one in kind)
    return str(kind)


def commands_page() -> str:
    """docs/reference/commands.md: the command `synaug` and its subcommands, each with its help."""
    lines = [
        _MADE,
        "# The command `synaug`",
        "",
        "What it makes is made by snakemake; `synaug` looks at it. Each part is what `synaug COMMAND --help` says.",
    ]
    command: Any = get_command(app)
    for name in ("", *command.commands):
        one = command.commands[name] if name else command
        words = f"synaug {name}".strip()
        context = typer.Context(one, info_name=words, terminal_width=100, **command.context_settings)
        lines += ["", f"## {words}", "", "```text", one.get_help(context).strip(), "```"]
    return "\n".join(lines) + "\n"


def schema_text() -> str:
    """The JSON schema of the config, as it stands in config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """Path in the repository -> text, of every generated file."""
    return {
        "config.schema.json": schema_text(),
        "docs/reference/config.md": config_page(),
        "docs/reference/manifests.md": manifests_page(),
        "docs/reference/commands.md": commands_page(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
