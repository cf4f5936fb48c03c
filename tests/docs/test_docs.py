"""The documents against the code: what exists is described, what is described exists, generated sections are as they would be made now."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import click
import doc_sections as sections
import doc_sources as sources
import pytest
from doc_sources import DOCS, ROOT

from access.doors import COMMANDS, ROUTES
from core.settings import ElasticsearchSettings, LogSettings, PostgresSettings, S3Settings, Settings, load

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"```.*?```", re.DOTALL)
COMMAND = re.compile(r"`daicho ([a-z]+(?: [a-z]+)?)")
DOCUMENTS = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "samples" / "README.md"]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("document", list(sections.files()), ids=lambda file: file.name)
def test_generated_sections_are_as_they_would_be_made_now(document: Path) -> None:
    text = document.read_text("utf-8")
    assert sections.renewed(text) == text, "run: .venv/bin/python tests/docs/doc_sections.py"


def test_every_section_has_its_place() -> None:
    placed = re.findall(r"<!-- generated: ([a-z-]+) -->", "".join(file.read_text("utf-8") for file in sections.files()))
    assert set(sections.SECTIONS) <= set(placed)


def test_every_command_is_described() -> None:
    text = read("docs/commands.md")
    for name in COMMANDS:
        assert f"### `daicho {name}" in text


def test_every_page_is_described_with_its_address() -> None:
    assert set(sources.routes()) == set(ROUTES)
    text = read("docs/commands.md")
    for name, address in sources.routes().items():
        assert f"| `{name}` | `/{address}` |" in text


def test_every_setting_is_described_with_its_default() -> None:
    rows = {
        row[0]: row
        for row in (line.strip("|").split("|") for line in read("docs/settings.md").splitlines())
        if len(row) == 6
    }
    rows = {name.strip(" `"): [cell.strip() for cell in row] for name, row in rows.items()}
    written = tomllib.loads(re.sub(r"\{person\}", '"officer"', _template()))
    chosen = load(Path("/nowhere/daicho-data"), environment={})
    tables = {
        "store_engine": S3Settings,
        "catalogue_engine": PostgresSettings,
        "index_engine": ElasticsearchSettings,
        "log": LogSettings,
    }
    text = read("docs/settings.md")
    for each in fields(Settings):
        if each.name in tables:
            part = text.split(f"`[{each.name.removesuffix('_engine')}]`, ")[1].split("\n\n")[1]
            told = [line.split("|")[1:3] for line in part.splitlines()[2:]]
            defaults = {name: cells[1].strip(" `") for cells in told for name in re.findall(r"`(\w+)`", cells[0])}
            for one in fields(tables[each.name]):
                assert defaults[one.name] == ("" if one.default is MISSING else str(one.default)), one.name
            continue
        row = rows[each.name]
        assert row[2] == f"`DAICHO_{each.name.upper()}`"
        assert bool(row[1]) == (each.name in written)
        if each.name in written:
            assert row[4] == f"`{written[each.name]}`"
            if each.name != "jobs":
                assert str(getattr(chosen, each.name)) == str(written[each.name])


def _template() -> str:
    from core.settings import TEMPLATE

    return TEMPLATE


def test_every_environment_variable_is_described() -> None:
    text = read("docs/settings.md")
    found = set()
    for package in sources.PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            found |= set(re.findall(r"DAICHO_[A-Z]+\b", file.read_text("utf-8")))
    assert {"DAICHO_HOSTS", "DAICHO_DEBUG"} <= found
    for name in found:
        assert name in text


def test_every_error_class_and_code_is_described() -> None:
    text = read("docs/errors.md")
    for name in sources.error_classes():
        assert f"`{name}`" in text
    for code in sources.code_literals():
        assert f"### {code}\n" in text or f"`{code}`" in text, code


def test_the_statuses_of_the_pages_are_those_told() -> None:
    text = read("docs/errors.md")
    told = {
        name: int(status)
        for status, names in re.findall(r"^\| (\d{3}) \| (.*) \|$", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    table = re.search(r"STATUSES.*?= \((.*?)\n\)", read("web/middleware.py"), re.DOTALL)
    assert table is not None
    real = {name: int(status) for name, status in re.findall(r"\((\w+), (\d{3})\)", table[1])}
    assert told == {name: status for name, status in real.items() if name != "DaichoError"}


def test_every_reason_is_described() -> None:
    text = read("docs/errors.md")
    found = set(re.findall(r'"([a-z_]+)"', re.search(r"REFUSALS = \((.*?)\)", read("records/capture.py"))[1]))  # type: ignore[index]
    found |= set(
        re.findall(
            r'reason(?: or|=|, reason =.*?,)\s*"([a-z_]+)"', read("records/spans.py") + read("pipelines/ingest.py")
        )
    )
    found |= set(re.findall(r'SpanSheet\([^()]*"([a-z]+_[a-z_]+)"\)', read("records/spans.py")))
    found |= set(re.findall(r'return None, "([a-z_]+)"', read("records/spans.py")))
    found |= set(re.findall(r'(?:reason = |reason=)"([a-z_]+)"', read("ingest/items.py") + read("ingest/sheet.py")))
    assert {"count_mismatch", "duplicate", "case_mismatch", "code_damaged", "torn", "ambiguous", "rescan"} <= found
    for reason in found:
        assert f"| `{reason}` |" in text, reason


def test_every_finding_is_described() -> None:
    text = read("docs/errors.md")
    found = set()
    for module in ("filesystem", "fixity", "s3"):
        told = r'(?:found|_report|Finding)\([^"\n]*(?:f?"[^"]*", )?(?:place, )?"([a-z_]+)"(?:, ["_f]| if )'
        found |= set(re.findall(told, read(f"storage/{module}.py")))
    assert {"overlaid", "hidden", "stale"} <= found
    found |= set(re.findall(r'Finding\([^"]*(?:"[a-z]+", )?[^"]*(?:"", )?"([a-z_.]+)", "', read("records/check.py")))
    assert {"missing", "extra", "unacknowledged", "journal.short", "keys.gone"} <= found
    for code in found:
        assert f"`{code}`" in text, code


def test_every_flow_is_described() -> None:
    flows = re.findall(r'@flow\(name="([a-z-]+)"', read("pipelines/flows.py"))
    assert "ingest-batch" in flows
    for name in flows:
        assert f"| `{name}` |" in read("docs/operate.md"), name


def test_every_event_is_described() -> None:
    assert len(sources.events()) > 15
    text = read("docs/formats.md")
    for event in sources.events():
        assert f"`{event}`" in text


def test_every_event_of_the_log_is_described() -> None:
    told = read("docs/operate.md").split("| event | when |")[1].split("\n\n")[0]
    found = {name for path, _ in sources.trees() for name in re.findall(r'"event": "([a-z]+)"', read(path))}
    found |= {name for path, _ in sources.trees() for name in re.findall(r'logs\.write\(\s*"([a-z]+)"', read(path))}
    assert {"error", "library", "request", "command", "probe"} <= found
    for name in found:
        assert f"`{name}`" in told, name


def test_every_port_method_is_described() -> None:
    text = read("docs/ports.md")
    names = set()
    for listed in sources.ports().values():
        for port, methods in listed.items():
            names.add(port)
            assert f"## {port}\n" in text
            for method, (signature, doc) in methods.items():
                assert doc, f"{port}.{method} says nothing"
                assert method == "" or f"`{signature}`" in text
    assert {"ObjectStore", "KeyStore", "Journal", "DerivativeStore", "SearchIndex", "PageSource", "TextReader"} <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(CODE_BLOCK.sub("", document.read_text("utf-8"))):
        if not link.startswith(("http://", "https://", "#")):
            assert (document.parent / link.split("#")[0]).exists(), link


def test_make_targets_named_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
            assert target in targets, f"{document.name}: make {target}"
    assert "make demo" in read("README.md") and "make test" in read("README.md")


def test_commands_named_in_documents_and_messages_exist() -> None:
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    texts = {document.name: document.read_text("utf-8") for document in DOCUMENTS}
    texts |= {f"message {each.code}": f"{each.ja}\n{each.en}" for each in sources.codes()}
    for place, text in texts.items():
        for found in COMMAND.findall(text):
            word, _, second = found.partition(" ")
            name = f"{word} {second}" if word in groups and second else word
            assert name in COMMANDS or name in groups, f"{place}: daicho {name}"


def test_options_named_in_messages_exist() -> None:
    from cli.main import daicho, load_commands

    load_commands()
    for each in sources.codes():
        for name, second, option in re.findall(
            r"`daicho ([a-z]+)(?: ([a-z]+))?[^`]*?(--[a-z-]+)", f"{each.ja} {each.en}"
        ):
            command = daicho.commands[name]
            if isinstance(command, click.Group):
                command = command.commands[second]
            assert isinstance(command, click.Command)
            known = {text for parameter in command.params for text in parameter.opts}
            assert option in known, f"{each.code} names {option} of daicho {name}"


def test_the_libraries_decided_on_are_those_required() -> None:
    required = {
        re.split(r"[<>=~!; \[]", line)[0] for line in read("requirements.in").splitlines() if line and line[0] != "#"
    }
    told = set(re.findall(r"^\| `([a-z0-9-]+)` \|", read("docs/decisions/0007-libraries.md"), re.MULTILINE))
    assert told == required


def test_decisions_have_their_four_parts_and_go_on_in_number() -> None:
    files = sorted((DOCS / "decisions").glob("*.md"))
    assert [file.name[:4] for file in files] == [f"{number:04d}" for number in range(1, len(files) + 1)]
    for file in files:
        text = file.read_text("utf-8")
        assert text.startswith(f"# {file.name[:4]} ")
        for part in ("Context", "Choice", "Consequence", "What would change our mind"):
            assert f"**{part}.**" in text, f"{file.name}: {part}"


def test_people_of_the_demo_are_told_in_both_languages() -> None:
    people = set(re.findall(r"^  - login: (\w+)", read("samples/municipality.yaml"), re.MULTILINE))
    assert len(people) >= 5
    for name in ("README.md", "README.ja.md"):
        told = {
            each
            for row in re.findall(r"^\| (`\w+1?`.*?) \|", read(name), re.MULTILINE)
            for each in re.findall(r"`(\w+)`", row)
        }
        assert people <= told, name


def test_figures_about_sessions_and_passwords_are_those_of_the_code() -> None:
    middleware, signin = read("web/middleware.py"), read("access/signin.py")
    idle = re.search(r"^IDLE = timedelta\(minutes=(\d+)\)", middleware, re.MULTILINE)
    longest = re.search(r"^LONGEST = timedelta\(hours=(\d+)\)", middleware, re.MULTILINE)
    wrong, length = (re.search(rf"^{name} = (\d+)$", signin, re.MULTILINE) for name in ("FAILURES", "LENGTH"))
    locked = re.search(r"^LOCKED_FOR = timedelta\(minutes=(\d+)\)", signin, re.MULTILINE)
    assert idle and longest and wrong and length and locked
    commands = " ".join(read("docs/commands.md").split())
    assert f"after {idle[1]} minutes without a request and after {longest[1]} hours" in commands
    assert f"{idle[1]} 分操作しないと" in read("docs/start/staff.md")
    told = f"{length[1]} 文字以上、{wrong[1]} 回続けて間違えると {locked[1]} 分入れません"
    assert told in read("docs/start/administrator.md")


def test_every_snippet_of_a_quick_start_is_marked_as_tested() -> None:
    for file in (DOCS / "start").glob("*.md"):
        text = file.read_text("utf-8")
        assert text.count("```sh\n") == text.count("<!-- tested -->\n```sh\n") > 0, file.name


def test_requirements_stand_once_each_and_say_how() -> None:
    rows = [
        line.strip("|").split("|")
        for line in read("docs/requirements.md").splitlines()
        if re.match(r"\| [SMGUH]-", line)
    ]
    ids = [each.strip() for row in rows for each in re.split("[,…]", row[0])]
    assert len(ids) == len(set(ids)) > 60
    for row in rows:
        state, how = row[2].strip(), row[3].strip()
        assert state in ("○", "△", "―")
        assert how or state == "―", row[0]


def test_words_of_the_glossary_live_where_it_says() -> None:
    named = {
        name for name in re.findall(r"`([A-Za-z_.]+)`", read("docs/glossary.md")) if "." in name and "/" not in name
    }
    source = {path: (ROOT / path).read_text("utf-8") for path, _ in sources.trees()}
    assert len(named) > 40
    for name in named:
        *module, last = name.split(".")
        path = "/".join(module) + ".py"
        if name.split(".")[0] in sources.PACKAGES:
            whole = "/".join(name.split(".")) + ".py"
            assert whole in source or re.search(rf"\b{last}\b", source[path]), name
        else:
            owner = module[-1]
            assert (
                any(
                    re.search(rf"class {owner}\b", text) and re.search(rf"\b{last}\b", text) for text in source.values()
                )
                or name == "master.key"
            ), name
