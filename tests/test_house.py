"""The house stands as style.md draws it: every package in the contract, arrows down, Django and Prefect in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
BESIDE = {"tests", "samples", "bench", "docs"}
"""Folders with Python in them that are no packages of the house."""

PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text("utf-8"))
CONTRACT = PROJECT["tool"]["importlinter"]


def packages() -> set[str]:
    return {folder.parent.name for folder in HOUSE.glob("*/__init__.py")} - BESIDE


def modules() -> Iterator[tuple[Path, set[str]]]:
    """Every module of the house, with the top-level names it imports anywhere in it."""
    for package in sorted(packages()):
        for file in sorted((HOUSE / package).rglob("*.py")):
            names: set[str] = set()
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    names.add(node.module.split(".")[0])
            yield file.relative_to(HOUSE), names


def test_every_package_is_in_the_contract() -> None:
    assert packages() == set(CONTRACT["root_packages"])
    [layers] = [contract for contract in CONTRACT["contracts"] if contract["type"] == "layers"]
    assert {name.strip() for layer in layers["layers"] for name in layer.split("|")} == packages()
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages()


def test_every_package_is_a_package() -> None:
    """A folder of modules without `__init__.py` would pass by the contract."""
    folders = {file.parent.name for file in HOUSE.glob("*/*.py")} - BESIDE
    assert folders == packages()


def test_the_contract_has_no_holes() -> None:
    assert not any("ignore_imports" in contract for contract in CONTRACT["contracts"])


def test_strict_types_where_they_are_due() -> None:
    assert PROJECT["tool"]["mypy"]["strict"] is True
    assert {"core", "storage", "search", "ingest", "records", "access"} <= set(PROJECT["tool"]["mypy"]["packages"])


def test_django_stays_in_its_rooms() -> None:
    for file, names in modules():
        own = (
            file.parts[0] in ("web", "wiring") or file.name in ("models.py", "queries.py") or "migrations" in file.parts
        )
        assert own or "django" not in names, file


def test_the_database_stays_in_models_and_queries() -> None:
    """Views translate HTTP; what they need of the catalogue they ask of `records`."""
    for file, _ in modules():
        if file.parts[0] == "web" and "django.db" in (HOUSE / file).read_text("utf-8"):
            raise AssertionError(f"{file} reaches the database")


def test_what_the_copyleft_licence_covers_is_not_imported() -> None:
    strangers = {"fitz", "pymupdf", "PyPDF4", "poppler", "gi", "ghostscript", "ocrmypdf", "unidecode"}
    for file, names in modules():
        assert not names & strangers, file


def test_import_linter_agrees() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run([str(program), "--no-cache"], capture_output=True, text=True, cwd=HOUSE)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-1000:]
