"""The fenced blocks of README.md and docs/, and the commands in them."""

import re
from dataclasses import dataclass
from pathlib import Path

# Commands that no test runs, and why. tests/unit/repository/test_docs.py checks that what they name is there.
NOT_RUN = {
    r"^make ": "sets up an environment of 6 GB, or passes all tests: this one among them",
    r"^\. \.venv/bin/activate$": "needs the environment that `make setup` makes",
    r"^(\S*/)?(pip|python -m pip|git|pre-commit) ": "needs a network, or a commit",
    r"^snakemake --cores .*--configfile experiments/": "needs data that are not in the repository, a GPU, or an hour",
    r"^python (resources|benchmarks)/": "minutes, or files that are not in the repository",
    r"--workflow-profile": "needs a cluster: tests/cluster runs it on a SLURM of its own",
    r"^(HF_HUB_OFFLINE=\d )?synaug fetch ": "needs a network: tests/unit/commands/test_fetch.py has a hub of its own",
    r"^synaug init OWNER/NAME": "needs a network: tests/unit/commands/test_init_hub.py has a hub of its own",
    r"^synaug track ": "needs the extra mlflow: tests/unit/commands/test_track.py",
    r"^synaug export(-model)? .*--hub ": "needs a network: the tests of the commands have a hub of their own",
    r"^synaug run .*--parts ": "tests/workflow/test_run_in_parts.py does",
    r"--sdm conda": "needs conda, and a network",
    r"^snakemake --cores .*--configfile images\.yaml$": "tests/workflow/test_own_data.py does, with fewer steps",
    r"^python docs/examples/": "tests/unit/repository/test_without_snakemake.py does",
    r"^synaug watch [^-]*$": "stays until the run ends; with --once it is run",
    r"^(docker|apptainer) ": "needs a container runtime, or a network",
}

FENCED = re.compile(r"^```([\w{}-]*) ?[^`\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (?:make|snakemake|synaug|python|pip|docker|apptainer|\. ).*\n(?:    .*\n)*", re.MULTILINE)


def reason_not_to_run(command: str) -> str | None:
    """Why no test runs `command`; None: tests/workflow/test_docs_commands.py does."""
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, command)), None)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: bash, python, yaml, text ..."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines of a bash block, without comments; a line that ends in a backslash goes on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        lines = [re.sub(r"(^|\s+)#.*$", "", line).strip() for line in lines]
        return [line for line in lines if line]


def pages(root: Path) -> list[Path]:
    """The pages that people write. The pages in docs/reference/ are generated, except steps.md."""
    written = [path for path in sorted(root.glob("docs/**/*.md")) if path.parent.name != "reference"]
    written += [root / name for name in ("docs/reference/steps.md", "benchmarks/README.md", "experiments/README.md")]
    return [root / "README.md", root / "CONTRIBUTING.md", root / "CHANGELOG.md", *written]


def blocks(root: Path, language: str) -> list[Block]:
    """All blocks of a language, page by page; of bash also indented ones that begin with a command."""
    found = []
    for page in pages(root):
        text, name = page.read_text(), str(page.relative_to(root))
        for match in FENCED.finditer(text):
            found.append(Block(name, text[: match.start()].count("\n") + 1, *match.groups()))
        plain = FENCED.sub(lambda match: re.sub(r".", "", match[0]), text)
        for match in INDENTED.finditer(plain):
            found.append(Block(name, plain[: match.start()].count("\n") + 1, "bash", match[0]))
    return [block for block in found if block.language == language]


def merged(config: dict, changes: dict) -> dict:
    """`config` with `changes`, block by block; recipes and what is no block are replaced."""
    result = dict(config)
    for key, value in changes.items():
        inside = isinstance(value, dict) and isinstance(result.get(key), dict) and key != "recipes"
        result[key] = merged(result[key], value) if inside else value
    return result
