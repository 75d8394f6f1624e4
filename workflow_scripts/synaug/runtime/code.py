"""A hash of the code that decides what a script makes.

The rules pass it as a parameter, so that a rule is run again when its code changes. Snakemake's own `code` trigger is
off: it goes by the date of the script file, which every checkout changes, and it does not see imported modules.
"""

import ast
import atexit
import hashlib
import json
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path

# Modules (and packages, with all below them) whose code does not decide any result.
# config: the values arrive as parameters; the rest of these modules are descriptions, limits and error messages.
# schemas: mostly descriptions of columns. If a table lacks a column, the reader says so and names the file to delete.
# errors, disk, logs: what people read when a job fails.
IGNORED = (
    "synaug.config",
    "synaug.manifests.schemas",
    "synaug.runtime.disk",
    "synaug.runtime.errors",
    "synaug.runtime.logs",
)

# What is known of a file from an earlier run: only to be quick, it may be deleted at any time.
CACHE = Path(".snakemake") / "synaug_code.json"


@cache
def code_hash(script: str | os.PathLike) -> str:
    """Hash (16 hexadecimal digits) of `script` and of every module of synaug and other script that it imports.

    It follows imports of imports.

    Docstrings, comments and layout do not count: the hash is made of the syntax trees. Files of other kinds that lie
    beside the modules (templates, style sheets) count byte by byte. script: workflow_scripts/<step>/<rule>.py. The
    library is workflow_scripts/synaug/, or, if synaug is installed without its checkout, the installed one; the hash is
    the same. Raises FileNotFoundError if there is no such script.
    """
    script = Path(script)
    scripts, library = _folders(script)
    digest = hashlib.sha256(_known(script)["hash"].encode())
    paths = import_closure(script) - {script}
    names = {path.relative_to(scripts if path.is_relative_to(scripts) else library): path for path in paths}
    for name, path in sorted(names.items()):
        digest.update(f"{name.as_posix()} {_known(path)['hash']}\n".encode())
    return digest.hexdigest()[:16]


def _folders(script: Path) -> tuple[Path, Path]:
    """The folder of all scripts, and the folder of the library synaug."""
    scripts = script.parents[1]
    return scripts, scripts if (scripts / "synaug").is_dir() else Path(__file__).parents[2]


def import_closure(script: Path) -> set[Path]:
    """`script`, the modules and scripts that it imports, directly or not, and the templates beside the modules."""
    scripts, library = _folders(script)
    closure, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path not in closure:
            closure.add(path)
            waiting += _imported(path, scripts, library)
    packages = {path.parent for path in closure if path.is_relative_to(library / "synaug")}
    return closure.union(*(_templates(folder) for folder in packages))


# A run asks for the hashes of all rules, which share most modules: each is looked for once.
@cache
def _imported(path: Path, scripts: Path, library: Path) -> list[Path]:
    """The files that the imports in `path` run."""
    modules = _known(path)["modules"]
    return [file for name in modules for file in _files(library if name.split(".")[0] == "synaug" else scripts, name)]


@cache
def _templates(folder: Path) -> list[Path]:
    """The templates of a package, and what they include. Not all its files: editors leave theirs there."""
    return [file for file in folder.iterdir() if file.suffix in (".j2", ".css", ".js") and file.name[0] != "."]


@cache
def _files(folder: Path, module: str) -> list[Path]:
    """The files that `import module` runs: the module and the packages above it, less IGNORED."""
    package = module.rpartition(".")[0]
    above = _files(folder, package) if package else []
    if any(module == ignored or module.startswith(f"{ignored}.") for ignored in IGNORED):
        return above
    path = folder.joinpath(*module.split("."))
    # The folders of scripts have no __init__.py. What is no file is a function or class of the module.
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return [*above, file] if file.is_file() else above


@cache
def _known(path: Path) -> dict:
    """`hash` of the content of `path`, and `modules`: all that it imports."""
    status = path.stat()
    key, stamp = str(path), [status.st_mtime_ns, status.st_size]
    cached = _cache().get(key)
    if cached and cached["stamp"] == stamp:
        return cached
    known = {"stamp": stamp, **_examine(path)}
    _cache()[key] = known
    return known


def _examine(path: Path) -> dict:
    if path.suffix != ".py":
        return {"hash": hashlib.sha256(path.read_bytes()).hexdigest(), "modules": []}
    tree = ast.parse(path.read_bytes(), path)
    imports = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    text = "".join(_tokens(tree, []))
    return {"hash": hashlib.sha256(text.encode()).hexdigest(), "modules": sorted(imports)}


def _tokens(node: object, tokens: list[str]) -> list[str]:
    """The syntax tree as text, the same in every version of Python: without positions, docstrings and empty fields."""
    if isinstance(node, ast.AST):
        tokens.append(type(node).__name__ + "(")
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                value = value[1:] if ast.get_docstring(node, clean=False) is not None else value
            if value is not None and value != []:
                tokens.append(f"{name}=")
                _tokens(value, tokens)
        tokens.append(")")
    elif isinstance(node, list):
        tokens.append("[")
        for item in node:
            _tokens(item, tokens)
        tokens.append("]")
    else:
        tokens.append(f"{node!r},")
    return tokens


@cache
def _cache() -> dict:
    try:
        return json.loads(CACHE.read_text())
    except (OSError, ValueError):
        return {}


def save_cache_at_exit() -> None:
    """When this process ends, it keeps what it found for the next run, in .snakemake/ of the working directory."""
    atexit.register(save_cache, CACHE.absolute())


def save_cache(path: Path = CACHE) -> None:
    """Write what is known of the files to `path`. It is left out where that cannot be written."""
    text = json.dumps(_cache())
    with suppress(OSError, UserError):
        if path.parent.is_dir() and not (path.is_file() and path.read_text() == text):
            with atomic_path(path) as temporary:
                temporary.write_text(text)


def import_from(scripts: Path) -> None:
    """Make every job that this process starts import synaug from the folder `scripts` first."""
    others = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(scripts), *others]))
