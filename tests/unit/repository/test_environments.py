"""Conda environments and images beside the code that runs in them."""

import ast
import re
import sys

import pytest
import yaml

# Import name -> distribution, where the two differ.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# Module -> what it imports in a function, which is called in every job that imports the module.
IMPORTED_LATER = {"synaug/manifests/sorting.py": "duckdb"}


def rules_with_scripts(repository):
    """(rule, script, names of its environments) of every rule that has a script."""
    for path in sorted((repository / "rules").glob("*.smk")):
        blocks = re.split(r"^ *(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)[1:]
        for rule, block in zip(blocks[::2], blocks[1::2], strict=True):
            if script := re.search(r'"\.\./workflow_scripts/(\w+/\w+\.py)"', block):
                yield rule, script[1], set(re.findall(r'"\.\./envs/(\w+)\.yaml"', block))


def packages(script, root):
    """What is imported as soon as `script` and all modules of synaug that it imports are, or later: top-level names."""
    found, seen, waiting = set(), set(), [script]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        found |= {name for module, name in IMPORTED_LATER.items() if path == root / module}
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: relative import"
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for parts in (name.split(".") for name in names):
                if (root / parts[0]).is_dir():  # the library, or the script of another rule
                    modules = [root.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
                    files = [file for one in modules for file in (one.with_suffix(".py"), one / "__init__.py")]
                    waiting += [file for file in files if file.exists()]
                else:
                    found.add(parts[0])
    return found - sys.stdlib_module_names


def test_every_script_has_an_environment_that_holds_what_it_imports(repository):
    scripts = repository / "workflow_scripts"
    held = {}
    for path in (repository / "envs").glob("*.yaml"):
        pins = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
        held[path.stem] = {pin.split("==")[0] for pin in pins}
    seen = set()
    for rule, script, environments in rules_with_scripts(repository):
        assert environments, f"rule {rule} has a script and no conda environment"
        needed = {DISTRIBUTIONS.get(name, name) for name in packages(scripts / script, scripts)}
        for name in environments:
            assert needed <= held[name], f"rule {rule}: envs/{name}.yaml lacks {needed - held[name]}"
        seen.add(script)
    packages_of_workflow = [*scripts.glob("synaug/*.py"), *scripts.glob("snakemake_logger_plugin_synaug/*.py")]
    assert seen == {str(path.relative_to(scripts)) for path in {*scripts.glob("*/*.py")} - {*packages_of_workflow}}


@pytest.fixture(scope="module")
def copied(repository) -> list[str]:
    """What .dockerignore lets into the image."""
    lines = (repository / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "nothing that is not named"
    return [line[1:] for line in lines if line.startswith("!")]


def test_both_images_hold_the_whole_workflow_and_nothing_else(repository, copied):
    definition = (repository / "apptainer.def").read_text()
    assert re.findall(r"^    (\S+) /opt/synaug/$", definition, re.MULTILINE) == copied
    assert all((repository / name).exists() for name in copied)
    # Whatever the Snakefile, a rule or the default config names.
    text = "".join(path.read_text() for path in [repository / "Snakefile", *(repository / "rules").glob("*.smk")])
    named = {name for name in re.findall(r'"(?:\.\./)?(\w+)/', text) if (repository / name).is_dir()}
    config = yaml.safe_load((repository / "config.yaml").read_text())
    named |= {value.split("/")[0] for value in (config["dataset"]["path"], config["generation"]["model"])}
    assert named - {"results", "logs"} <= set(copied)


def test_both_images_are_made_alike(repository):
    dockerfile = (repository / "Dockerfile").read_text()
    definition = (repository / "apptainer.def").read_text()
    base = re.search(r"^FROM docker\.io/library/(\S+)$", dockerfile, re.MULTILINE)[1]
    assert re.search(r"^From: (\S+)$", definition, re.MULTILINE)[1] == base
    install = "pip install --no-cache-dir"
    for text in (dockerfile, definition):
        assert [line.split(install)[1].strip(" \\") for line in text.splitlines() if install in line] == [
            "--requirement requirements.lock",
            "--no-deps --editable .",
        ]
    assert 'ENTRYPOINT ["snakemake", "--snakefile", "/opt/synaug/Snakefile"]' in dockerfile
    assert 'exec snakemake --snakefile /opt/synaug/Snakefile "$@"' in definition
    assert re.findall(r"^USER (\d+)$", dockerfile, re.MULTILINE) == ["1000"]
