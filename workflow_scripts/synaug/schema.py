"""Write config.schema.json, which editors complete config files with: python -m synaug.schema"""

import json
from pathlib import Path

from synaug.config import Config


def schema_text() -> str:
    """The JSON schema of the config, as it stands in config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path("config.schema.json").write_text(schema_text())
