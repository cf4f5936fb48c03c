"""What the sources say of themselves, read without running them: errors and codes, events, routes, port methods.

The generated sections of docs/ are made from it (`python tests/docs/doc_sections.py` writes them), and the tests compare.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core import errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("core", "storage", "search", "ingest", "access", "records", "pipelines", "web", "cli", "wiring")


def trees() -> Iterator[tuple[str, ast.Module]]:
    """(path within the repository, syntax tree) of every source file."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text("utf-8"))


def error_classes() -> dict[str, type[errors.DaichoError]]:
    """Name -> class, in the order of core/errors.py."""
    found = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.DaichoError)]
    return {each.__name__: each for each in sorted(found, key=lambda each: inspect.getsourcelines(each)[1])}


@dataclass(frozen=True, order=True)
class Coded:
    """One code with the class that carries it and what it tells people; where the text depends on the case, `…` stands."""

    code: str
    kind: str
    ja: str
    en: str


def codes() -> list[Coded]:
    """Every code that some source raises, once for each different message, in order."""
    classes = error_classes()
    found: set[Coded] = set()
    for path, tree in trees():
        if path in ("core/errors.py", "storage/memory.py"):  # the words themselves; a double that repeats a real store
            continue
        for function, call in _calls(tree):
            kind = _called(call)
            if kind not in classes:
                continue
            texts = [_text(each) for each in call.args[:2]]
            written = next((each.value for each in call.keywords if each.arg == "code"), None)
            for code in _values(tree, function, written) if written is not None else [classes[kind].code]:
                if len(texts) == 2 and all(texts) and texts[0] != texts[1]:
                    found.add(Coded(code, kind, *texts))
        found |= {Coded(code, "BadFile", *texts) for code, texts in _words(tree).items() if code.startswith("file.")}
    return sorted(found)


def code_literals() -> set[str]:
    """Every literal given as a `code`, and the codes of the classes: nothing that people may be shown is missing from it."""
    found = {each.code for each in error_classes().values()}
    for _, tree in trees():
        for _, call in _calls(tree):
            for keyword in call.keywords:
                if keyword.arg == "code" and not isinstance(keyword.value, ast.JoinedStr):
                    found |= set(_strings(keyword.value))
    return {each for each in found if "." in each or "_" in each or each in ("sign_in", "conflict", "busy", "internal")}


def events() -> set[str]:
    """Every event that some source writes into the journal."""
    found = set()
    for _, tree in trees():
        for _, call in _calls(tree):
            if _called(call) in ("note", "note_alone", "_note_sealed"):
                texts = [each.value for each in call.args if isinstance(each, ast.Constant)]
                found |= {each for each in texts[:1] if isinstance(each, str)}
    return found


def routes() -> dict[str, str]:
    """Name of a page -> its address, from web/urls.py."""
    tree = ast.parse((ROOT / "web" / "urls.py").read_text("utf-8"))
    return {
        keyword.value.value: call.args[0].value
        for _, call in _calls(tree)
        if _called(call) == "path"
        for keyword in call.keywords
        if keyword.arg == "name"
    }


def ports() -> dict[str, dict[str, dict[str, tuple[str, str]]]]:
    """File -> port -> method -> (signature, docstring); "" stands for the port itself."""
    found: dict[str, dict[str, dict[str, tuple[str, str]]]] = {}
    for path in ("storage/port.py", "search/port.py", "ingest/port.py", "core/clock.py", "core/ids.py"):
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
                methods = {"": (node.name, ast.get_docstring(node) or "")}
                for each in node.body:
                    if isinstance(each, ast.FunctionDef):
                        signature = f"{each.name}({ast.unparse(each.args)}) -> {ast.unparse(each.returns or each.args)}"
                        methods[each.name] = (signature.replace("(self, ", "(").replace("(self)", "()"), _doc(each))
                found.setdefault(path, {})[node.name] = methods
    return found


def _doc(node: ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(name of the innermost function, call) of every call in the tree."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call):
            yield function, node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    return walk(tree, "")


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _text(node: ast.expr) -> str:
    """A literal text, `…` in place of what is put into it; "" for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _strings(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def _values(tree: ast.Module, function: str, written: ast.expr) -> list[str]:
    """What a `code=` can be: its literals, or what the callers of the function it is an argument of give."""
    given = [
        text for _, call in _calls(tree) if _called(call) == function for arg in call.args for text in _strings(arg)
    ]
    if isinstance(written, ast.Constant):
        return [written.value]
    if isinstance(written, ast.JoinedStr):
        return [_text(written).replace("…", text) for text in dict.fromkeys(given)]
    return [text for text in dict.fromkeys(given) if "." in text]


def _words(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Tables of a module: code -> (ja, en)."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple) and len(value.elts) == 2:
                    ja, en = (_text(each) for each in value.elts)
                    if isinstance(key.value, str) and "." in key.value and ja and en:
                        found[key.value] = (ja, en)
    return found
