"""Python files of the project -> their modules, imports, functions and strings, by ast."""

import ast
import collections
import functools
import pathlib
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ("vit_keras", "training", "export", "benchmarks", "tests")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders: str) -> list[pathlib.Path]:
    """The Python files in folders of the repository."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(file: pathlib.Path) -> str:
    """A file's path from the root of the repository, with slashes."""
    return file.relative_to(ROOT).as_posix()


@functools.cache
def parse(file: pathlib.Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


def module_name(file: pathlib.Path) -> str:
    """ "training/data/splits.py" -> "training.data.splits"; a package has its folder's name."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def project_modules() -> frozenset[str]:
    """The names of all modules of the project."""
    return frozenset(map(module_name, files(*FOLDERS)))


def imported_modules(file: pathlib.Path) -> set[str]:
    """The modules a file imports, also inside functions, but not for annotations alone.

    "from training.data import splits" imports the module training.data.splits, and
    "from training.data.splits import load_splits" the same.
    """
    modules: set[str] = set()
    nodes: collections.deque[ast.AST] = collections.deque([parse(file)])
    while nodes:
        node = nodes.popleft()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(file)} has a relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                modules.add(submodule if submodule in project_modules() else str(node.module))
    return modules


def functions(file: pathlib.Path) -> Iterator[Function]:
    """All functions and methods of a file, the inner ones as well."""
    for node in ast.walk(parse(file)):
        if isinstance(node, Function):
            yield node


def line_count(node: Function) -> int:
    """The lines of a function, its docstring included and its decorators not."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def public_definitions(file: pathlib.Path) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """(qualified name, node) of the public classes, functions and methods of a module."""
    for node in parse(file).body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(member, Function) and _is_public_method(member.name):
                yield f"{node.name}.{member.name}", member


def _is_public_method(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


@functools.cache
def documented_methods() -> dict[str, set[str]]:
    """{class of the project: names of its methods with a docstring, inherited ones included}."""
    classes = {
        node.name: node
        for file in files(*FOLDERS)
        for node in parse(file).body
        if isinstance(node, ast.ClassDef)
    }

    def collect(name: str) -> set[str]:
        if name not in classes:
            return set()
        node = classes[name]
        own = {
            member.name
            for member in node.body
            if isinstance(member, Function) and ast.get_docstring(member)
        }
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        return own.union(*map(collect, bases))

    return {name: collect(name) for name in classes}


def missing_annotations(node: Function) -> list[str]:
    """The arguments of a function without an annotation, and "return" where that has none."""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    if named and named[0].arg in ("self", "cls"):
        named = named[1:]
    named += [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    missing = [argument.arg for argument in named if argument.annotation is None]
    if node.returns is None:
        missing.append("return")
    return missing
