"""Write what is made from the code: config.schema.json, which editors complete config files with, and docs/reference/.

python -m synaug.schema
"""

import json
from pathlib import Path

from synaug.config import Config


def schema_text() -> str:
    """The JSON schema of the config, as it stands in config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """Path in the repository -> text, of all files that are made from the code."""
    from synaug.reference import commands_page, config_page, manifests_page

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
