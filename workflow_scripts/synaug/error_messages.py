"""Finds the error messages of the code in its syntax trees, for docs/reference/errors.md."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SCRIPTS = Path(__file__).parents[1]
RULES = SCRIPTS.parent / "rules"

# Section of the page -> the folders and modules whose messages it lists.
SECTIONS = {
    "config": ["synaug/config", "rules/storage"],
    "dataset": ["dataset", "synaug/datasets"],
    "imbalance": ["imbalance", "synaug/imbalance"],
    "plan": ["plan", "synaug/plan", "rules/common"],
    "generator": ["generator", "synaug/generator"],
    "generation": ["generation", "synaug/generation"],
    "screening": ["screening", "synaug/screening"],
    "balance": ["balance", "synaug/balance"],
    "training": ["training", "synaug/training", "synaug/networks"],
    "evaluation": ["evaluation", "synaug/evaluation"],
    "report": ["report", "synaug/report"],
    "study": ["study", "synaug/study"],
    "images and manifests": ["synaug/images", "synaug/manifests"],
    "machine": ["synaug/runtime", "synaug/downloads"],
    "command synaug": ["synaug/commands", "synaug/cli"],
}
# Functions that give the message of another library.
_REASONS = {"short_text", "one_line", "_first_line"}
# What names in the code stand for, where the name itself would not tell a reader.
_WORDS = {
    name: words
    for words, names in {
        "adapter": "shown",
        "class": "alike both trainable without",
        "file": "gone state unexpected",
        "folder": "cache parent results saved",
        "id": "beginning",
        "key": "user",
        "kind": "auto_class loaded",
        "model": "name_or_path",
        "name": "lacking missing reserved similar unknown wordnet_id",
        "names": "available below closest held_out known listed needed possible present sample shared",
        "number": "announced DEEPEST empty LARGEST_NUMBER lost MOST_VALUES null_count num_rows seen timeout_s "
        "unreadable wanted wrong",
        "path": "candidates extractors filename new old output predictions real root start table",
        "reason": "error msg NO_SPACE strerror why",
        "other forms": "instead",
        "split": "in_splits",
        "place": "where",
        "value": "changes cls code config mine theirs",
    }.items()
    for name in names.split()
}


@dataclass(frozen=True)
class ErrorMessage:
    """A message of the code, in which `<words>` stand for what is filled in.

    place: the module and the line that raise it. problem, advice: as in UserError; a problem that contains its advice
    is split. advice is empty if there is none.
    """

    section: str
    place: str
    problem: str
    advice: str


def error_messages() -> list[ErrorMessage]:
    """All messages: by section, then alphabetically by their fixed words."""
    messages = [message for module, tree in _modules() for message in _messages(module, tree)]
    sections = list(SECTIONS)
    return sorted(messages, key=lambda message: (sections.index(message.section), _fixed_words(message.problem)))


def has_fixed_words(text: str) -> bool:
    """Whether a text is more than `<words>`."""
    return bool(_fixed_words(text))


def _fixed_words(text: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"<[^<>]*>", "", text).lower())


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield (path without suffix, syntax tree) of every module, and of the functions of every rule file."""
    for path in sorted(SCRIPTS.rglob("*.py")):
        yield path.relative_to(SCRIPTS).with_suffix("").as_posix(), ast.parse(path.read_text())
    for path in sorted(RULES.glob("*.smk")):  # a rule file is not Python, but its functions are
        text, functions = path.read_text(), ""
        for function in re.finditer(r"^def .+?(?=^[^\s)]|\Z)", text, re.MULTILINE | re.DOTALL):
            functions += "\n" * (text[: function.start()].count("\n") - functions.count("\n")) + function[0]
        yield f"rules/{path.stem}", ast.parse(functions)


def _section(module: str) -> str:
    for section, folders in SECTIONS.items():
        if any(f"{module}/".startswith(f"{folder}/") for folder in folders):
            return section
    raise KeyError(f"{module} raises an error: add it to a section in {Path(__file__).name}")


def _messages(module: str, tree: ast.Module) -> Iterator[ErrorMessage]:
    # `load_config` makes a UserError of the ValueErrors of the config's validators.
    names = {"UserError", "ValueError"} if module.startswith("synaug/config/") else {"UserError"}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    by_name = {function.name: function for function in functions}
    constants = [node for node in tree.body if isinstance(node, ast.Assign)]
    for function in functions:
        for statement, call in _errors(function, names):
            advice = next((word.value for word in call.keywords if word.arg == "advice"), ast.Constant(""))
            texts = _Texts(by_name, constants + _assignments(function))
            for problem, separate_advice in texts.variants(statement, call.args[0], advice):
                yield ErrorMessage(_section(module), f"{module}:{statement.lineno}", *_split(problem, separate_advice))


def _errors(function: ast.FunctionDef, names: set[str]) -> Iterator[tuple[ast.stmt, ast.Call]]:
    """Yield the calls of `names` in `function`, but not in the functions inside it, with the statements they are in."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef():
                continue
            case (
                ast.Raise(exc=ast.Call(func=ast.Name(id=name)) as call)
                | ast.Return(value=ast.Call(func=ast.Name(id=name)) as call)
                | ast.Assign(value=ast.Call(func=ast.Name(id=name)) as call)
            ) if name in names:
                yield node, call
        waiting += ast.iter_child_nodes(node)


def _split(problem: str, advice: str) -> tuple[str, str]:
    """(problem, advice), also of a problem that contains its advice: after a semicolon or question mark."""
    without_brackets = re.sub(r"\([^()]*\)", lambda inside: "_" * len(inside[0]), problem)
    if advice or not (parts := re.match(r"(.*)(?:; |(?<=\?) )", without_brackets)):
        return problem, advice
    return problem[: parts.end(1)], problem[parts.end() :]


class _Undecided(Exception):
    """A text depends on a choice that is not made yet. count: number of alternatives."""

    def __init__(self, choice: str, count: int):
        super().__init__(choice)
        self.choice, self.count = choice, count


@dataclass
class _Texts:
    """Turns expressions of a function into the texts that they can give.

    functions: those of the module. assignments: those to constants of the module and to variables of the function.
    chosen: the branch of each conditional expression, so that texts with the same condition fit each other.
    """

    functions: dict[str, ast.FunctionDef]
    assignments: list[ast.Assign]
    chosen: dict[str, int] = field(default_factory=dict)

    def variants(self, where: ast.stmt, *nodes: ast.expr) -> Iterator[list[str]]:
        """Yield the texts of `nodes`, which stand in the statement `where`, for every combination of choices."""
        waiting: list[dict[str, int]] = [{}]
        while waiting:
            self.chosen = waiting.pop()
            try:
                yield [self._shown(node, where) for node in nodes]
            except _Undecided as error:
                waiting += [{**self.chosen, error.choice: i} for i in reversed(range(error.count))]

    def _shown(self, node: ast.expr, where: ast.stmt) -> str:
        """The text of `node`, or `<words>` if it is not known before the program runs."""
        text = self._text(node, where)
        return f"<{_words(node)}>" if text is None else text

    def _text(self, node: ast.expr, where: ast.stmt) -> str | None:
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(self._shown(part, where) for part in parts)
            case ast.FormattedValue(value=value, conversion=conversion):
                text = self._shown(value, where)
                return f"'{text}'" if conversion == ord("r") else text
            case ast.BinOp(left=left, op=ast.Add(), right=right) if self._is_text(left, where):
                return self._shown(left, where) + self._shown(right, where)
            case ast.IfExp(test=test, body=body, orelse=other) if self._is_text(body, where):
                return self._choose(ast.unparse(test), [self._shown(body, where), self._shown(other, where)])
            case ast.Name(id=name):
                return self._variable(name, where)
            case ast.Call(func=ast.Name(id=name)) if name in self.functions and name not in _REASONS:
                return self._result(self.functions[name])
        return None

    def _is_text(self, node: ast.expr, where: ast.stmt) -> bool:
        return self._text(node, where) is not None

    def _choose(self, choice: str, alternatives: list[str]) -> str:
        alternatives = list(filter(None, alternatives))  # a text that can be left out is shown
        if len(alternatives) < 2:
            return "".join(alternatives)
        if choice not in self.chosen:
            raise _Undecided(choice, len(alternatives))
        return alternatives[self.chosen[choice]]

    def _variable(self, name: str, where: ast.stmt) -> str | None:
        """What is assigned to a variable or constant before `where`: the last text, and the others that it may have."""
        texts = []
        for assignment in reversed(self.assignments):
            if ast.unparse(assignment.targets[0]) == name and assignment.lineno < where.lineno:
                texts.append(self._text(assignment.value, assignment))
                if assignment.col_offset <= where.col_offset:  # not in a branch: it replaces those before
                    break
        return self._choose(name, texts) if texts and None not in texts else None

    def _result(self, function: ast.FunctionDef) -> str | None:
        """What `function` returns: a text of each of its returns."""
        inner = _Texts(self.functions, _assignments(function), self.chosen)
        returns = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
        values = [node for node in returns if ast.unparse(node) not in ("return", "return None")]
        texts = [inner._text(node.value, node) for node in values]
        return self._choose(function.name, texts) if texts and None not in texts else None


def _assignments(function: ast.FunctionDef) -> list[ast.Assign]:
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    return sorted(nodes, key=lambda node: node.lineno)


def _words(node: ast.expr) -> str:
    """What the value of an expression is called: the last name in it that tells something."""
    match node:
        case ast.Attribute(attr="__name__" | "iloc", value=value):
            return _words(value)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            name = name.strip("_")
            return _WORDS.get(name, name.lower().replace("_", " "))
        case ast.Call(func=ast.Name(id="len" | "sum")):
            return "number"
        case ast.Call(func=ast.Name(id=name)) if name in _REASONS:
            return "reason"
        case ast.Call(func=ast.Name(id="map"), args=[_, argument]):
            return _words(argument)
        case ast.Call(args=[argument, *_]):
            return _words(argument)
        case ast.Call(func=ast.Attribute(value=value)):
            return _words(value)
        case ast.Call(func=function):
            return _words(function)
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return _WORDS.get(name, name.replace("_", " "))
        case ast.Subscript(value=value, slice=ast.Slice()):
            return _words(value)
        case ast.Subscript(value=value):
            return re.sub(r"(?<=ss)es$|(?<!s)s$", "", _words(value))
        case ast.BinOp(left=left):
            return _words(left)
        case ast.BoolOp(values=[value, *_]) | ast.IfExp(body=value) | ast.Starred(value=value):
            return _words(value)
        case ast.GeneratorExp(generators=[generator, *_]) | ast.ListComp(generators=[generator, *_]):
            return _words(generator.iter)
    return "value"
