"""The generated sections of docs/, between `<!-- generated: NAME -->` and `<!-- /generated -->`.

python tests/docs/doc_sections.py     writes them anew
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import doc_sources as sources

from access.doors import COMMANDS, ROUTES
from cli.main import COMMON, daicho, load_commands

_SECTION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n)(.*?)(<!-- /generated -->)", re.DOTALL)

DECISIONS = {
    "anyone": "だれでも / anyone",
    "signed_in": "登録された人 / a known person",
    "administrator": "管理者 / an administrator",
    "installation": "データと鍵のフォルダーを持つ人 / whoever holds the data and key folders",
    "view": "閲覧の権限 / the right `view`",
    "capture": "登録の権限 / the right `capture`",
    "settle": "確認の権限 / the right `settle`",
    "edit": "修正の権限 / the right `edit`",
    "define": "定義の権限 / the right `define`",
}


def commands() -> str:
    """Every command with what it takes, in the order of access/doors.py, and who may."""
    load_commands()
    common = {option.name for option in _params(COMMON)}
    lines = ["### すべてのコマンドに / For every command", "", *_table(_params(COMMON)), ""]
    for name, decision in COMMANDS.items():
        command: click.Command = daicho
        for word in name.split():
            assert isinstance(command, click.Group)
            command = command.commands[word]
        own = [each for each in command.params if each.name not in common and each.name != "help"]
        arguments = " ".join(
            each.make_metavar(click.Context(command)) for each in own if isinstance(each, click.Argument)
        )
        lines += [f"### `daicho {name}{' ' if arguments else ''}{arguments}`", ""]
        lines += [command.help or "", "", f"だれが / who: {DECISIONS[decision]}", ""]
        if options := [each for each in own if isinstance(each, click.Option)]:
            lines += [*_table(options), ""]
    return "\n".join(lines)


def _params(decorators: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...]) -> list[click.Option]:
    def nothing() -> None: ...

    for decorator in reversed(decorators):
        decorator(nothing)
    return list(reversed(nothing.__click_params__))  # type: ignore[attr-defined]


def _table(options: list[click.Option]) -> list[str]:
    rows = []
    for option in options:
        names = " ".join([*option.opts, *option.secondary_opts])
        if option.is_flag or option.secondary_opts:
            kind = ""
        elif isinstance(option.type, click.Choice):
            kind = " / ".join(option.type.choices)
        elif isinstance(option.type, click.IntRange):
            kind = f"{option.type.min}–{'' if option.type.max is None else option.type.max}"
        else:
            kind = option.metavar or {"path": "PATH", "integer": "N"}.get(option.type.name, "TEXT")
        standard = option.default
        told = f"`{standard}`" if isinstance(standard, str | int) and not isinstance(standard, bool) else ""
        required = "必須 / required" if option.required else told
        rows.append(f"| `{names}` | {kind} | {option.help or ''} | {required} |")
    return ["| | | | 既定 / default |", "|---|---|---|---|", *rows]


def routes() -> str:
    """Every page with its address and who may."""
    listed = sources.routes()
    rows = [f"| `{name}` | `/{listed[name]}` | {DECISIONS[decision]} |" for name, decision in ROUTES.items()]
    return "\n".join(["| name | address | だれが / who |", "|---|---|---|", *rows, ""])


def error_classes() -> str:
    """Every class of error."""
    rows = []
    for name, each in sources.error_classes().items():
        doc = " ".join((each.__doc__ or "").split("Args:")[0].split())
        again = "はい / yes" if each.retryable else ""
        rows.append(f"| `{name}` | `{each.code}` | {each.exit_code} | {again} | {doc} |")
    return "\n".join(["| class | code | exit | 再試行 / retry | what |", "|---|---|---|---|---|", *rows, ""])


def error_codes() -> str:
    """Every code with its messages, which say what to do next."""
    classes = sources.error_classes()
    lines = []
    listed = sources.codes()
    for code in sorted({each.code for each in listed}):
        rows = [each for each in listed if each.code == code]
        kinds = ", ".join(f"`{kind}`" for kind in dict.fromkeys(each.kind for each in rows))
        exits = ", ".join(dict.fromkeys(str(classes[each.kind].exit_code) for each in rows))
        lines += [f"### {code}", f"{kinds}, exit {exits}", ""]
        for each in rows:
            lines += [f"- {each.ja}", f"  {each.en}"]
        lines.append("")
    return "\n".join(lines)


def ports() -> str:
    """Every port with the contract of each method."""
    lines = []
    for path, listed in sources.ports().items():
        for methods in listed.values():
            name, doc = methods[""]
            lines += [f"## {name}", f"`{path}`", "", doc, ""]
            for signature, said in (pair for method, pair in methods.items() if method):
                lines += [f"`{signature}`", "", *(f"> {line}" if line else ">" for line in said.splitlines()), ""]
    return "\n".join(lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "routes": routes,
    "error-classes": error_classes,
    "error-codes": error_codes,
    "ports": ports,
}


def files() -> Iterator[Path]:
    """Documents that hold generated sections."""
    for file in sorted(sources.DOCS.rglob("*.md")):
        if _SECTION.search(file.read_text("utf-8")):
            yield file


def renewed(text: str) -> str:
    """The document with its generated sections as they should be now; sections of others are left as they are."""

    def section(match: re.Match[str]) -> str:
        made = SECTIONS.get(match[2])
        return match[0] if made is None else f"{match[1]}{made()}{match[4]}"

    return _SECTION.sub(section, text)


if __name__ == "__main__":
    for each in files():
        each.write_text(renewed(each.read_text("utf-8")), "utf-8")
