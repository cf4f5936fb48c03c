"""`daicho migrate`: to real engines and back with the same digest, after breaks too, with the source in force until the end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.installed import (
    DAICHO,
    HOUSE,
    TEMPLATES,
    Installation,
    content,
    copied,
    digest,
    done,
    environment,
    made,
    run,
)

pytestmark = pytest.mark.slow

NewEngines = Callable[[Path], Path]


def files(folder: Path) -> dict[str, bytes]:
    """Every file beneath, by its path; not what is only being written."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "scratch" not in path.parts
    }


def tables(place: Installation) -> set[str]:
    """The engines that the settings file names."""
    return {name for name in tomllib.loads((place.data / "daicho.toml").read_text("utf-8")) if name in PARTS}


PARTS = ("store", "catalogue", "index")


def test_there_and_back_keeps_the_digest(demo: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    place = copied(demo, tmp_path)
    settings = place.data / "daicho.toml"
    settings.write_text(settings.read_text("utf-8") + "\n# written by hand\n", "utf-8")
    before, held, store = digest(place.data), content(place.data), files(place.data / "store")
    engines = new_engines(tmp_path)
    moved = done("migrate", "--to", engines, data=place.data)[-1]
    assert moved["moved"] == list(PARTS) and moved["digest"] == before and moved["objects"] > 0
    assert tables(place) == set(PARTS)
    assert "# written by hand" in settings.read_text("utf-8") and settings.stat().st_mode & 0o077 == 0
    assert files(place.data / "store") == store, "the source was touched"
    told = done("info", data=place.data)[-1]
    assert told["digest"] == before and told["engine"] == "s3"
    assert told["catalogue"].startswith("postgresql") and told["index"].startswith("elasticsearch")
    assert told["database"] == "ok" and told["index_documents"] > 0
    assert content(place.data) == held
    assert done("verify", data=place.data)[-1]["ok"]

    # Work goes on there, and comes back with everything.
    record = done("search", "", data=place.data)[0]["record"]
    shown = done("record", "show", record, data=place.data)[0]
    assert shown["values"]
    after, held = digest(place.data), content(place.data)
    assert after != before  # looking is journalled
    refused = run("migrate", "--to", engines, data=place.data)
    assert refused.error == "migrate.same"
    back = done("migrate", "--embedded", data=place.data)[-1]
    assert back["digest"] == after and back["written"] == 0 and tables(place) == set()
    assert digest(place.data) == after and done("info", data=place.data)[-1]["engine"] == "filesystem"
    assert done("verify", data=place.data)[-1]["ok"]
    assert content(place.data) == held
    assert [row["record"] for row in done("search", "", data=place.data)]

    # And there again: what lies there is compared and added to.
    again = digest(place.data)
    assert done("migrate", "--to", engines, data=place.data)[-1]["digest"] == again


def test_one_part_alone(small: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    place = copied(small, tmp_path)
    whole = tomllib.loads(new_engines(tmp_path).read_text("utf-8"))
    start = digest(place.data)
    for part in ("index", "store", "catalogue"):
        only = tmp_path / f"{part}.toml"
        rows = "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in whole[part].items())
        only.write_text(f"[{part}]\n{rows}", "utf-8")
        before = digest(place.data)
        assert done("migrate", "--to", only, data=place.data)[-1]["moved"] == [part]
        assert tables(place) == {part}
        assert done("search", "", data=place.data)
        assert digest(place.data) != before
        done("migrate", "--embedded", data=place.data)
    assert digest(place.data) != start


def test_passwords_move(small: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    place = copied(small, tmp_path)
    done("person", "password", "officer", data=place.data)
    asked = (
        "import sys; from pathlib import Path; from core.settings import load; from wiring.setup import set_up; "
        "set_up(load(Path(sys.argv[1]))); from access.queries import credentials; print(sorted(credentials()))"
    )

    def hashes() -> str:
        command = [sys.executable, "-c", asked, str(place.data)]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=HOUSE, check=True)
        return ended.stdout

    before = hashes()
    assert "p-" in before
    done("migrate", "--to", new_engines(tmp_path), data=place.data)
    assert hashes() == before


def test_killed_at_any_moment_the_source_counts(small: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    place = copied(small, tmp_path)
    before, engines = digest(place.data), new_engines(tmp_path)
    began = time.monotonic()
    rehearsal = copied(small, tmp_path / "rehearsal")
    (tmp_path / "other").mkdir()
    done("migrate", "--to", new_engines(tmp_path / "other"), data=rehearsal.data)
    whole = time.monotonic() - began
    for n in range(4):
        process = subprocess.Popen(
            [str(DAICHO), "migrate", "--to", str(engines), "--data", str(place.data)],
            env=environment(),
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(whole * (n + random.random()) / 4)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        if tables(place):
            break  # it was over before it was killed
        assert digest(place.data) == before
    if not tables(place):
        assert done("migrate", "--to", engines, data=place.data)[-1]["digest"] == before
    assert digest(place.data) == before and done("verify", data=place.data)[-1]["ok"]


def test_what_is_refused_changes_nothing(small: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    place = copied(small, tmp_path)
    before, engines = digest(place.data), new_engines(tmp_path)
    text = (place.data / "daicho.toml").read_text("utf-8")
    assert run("migrate", data=place.data).error == "migrate.where"
    assert run("migrate", "--to", engines, "--embedded", data=place.data).error == "migrate.where"
    assert run("migrate", "--embedded", data=place.data).error == "migrate.same"
    assert run("migrate", "--to", tmp_path / "none.toml", data=place.data).error == "settings.broken"
    other = made(tmp_path / "other", ["dv-support"])
    shutil.copyfile(engines, tmp_path / "same.toml")
    done("migrate", "--to", engines, data=other.data)
    assert run("migrate", "--to", tmp_path / "same.toml", data=place.data).error == "migrate.foreign"
    serving = subprocess.Popen(
        [str(DAICHO), "serve", "--port", "0", "--json", "--data", str(place.data)],
        env=environment(),
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None and "url" in serving.stdout.readline()
        (tmp_path / "free").mkdir()
        assert run("migrate", "--to", new_engines(tmp_path / "free"), data=place.data).error == "installation.in_use"
    finally:
        serving.terminate()
        serving.wait(20)
    assert (place.data / "daicho.toml").read_text("utf-8") == text and digest(place.data) == before


def test_rebuild_backup_and_restore_on_engines(small: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    place = copied(small, tmp_path)
    done("migrate", "--to", new_engines(tmp_path), data=place.data)
    before = digest(place.data)
    assert done("rebuild", data=place.data)[-1]["records"] > 0
    assert digest(place.data) == before
    assert done("reindex", data=place.data)[-1]["records"] > 0
    for first in (True, False):
        report = done("backup", tmp_path / "copy", data=place.data)[-1]
        assert (report["versions"] > 0) == first and not report["damaged"]
    back = tmp_path / "back"
    done("restore", tmp_path / "copy", data=back)
    assert digest(back) == before and done("verify", data=back)[-1]["ok"]


def test_a_ledger_that_requires_worm(small: Installation, tmp_path: Path, new_engines: NewEngines) -> None:
    folder = tmp_path / "template"
    shutil.copytree(TEMPLATES / "dv-support", folder)
    (folder / "ledger.yaml").open("a").write("\nworm: true\n")
    place = copied(small, tmp_path)
    assert run("ledger", "apply", folder, data=place.data).error == "store.not_worm"
    done("migrate", "--to", new_engines(tmp_path), data=place.data)
    done("ledger", "apply", folder, data=place.data)
    told = done("locks", "extend", data=place.data)[-1]
    assert told["objects"] > 0
    weak = tmp_path / "weak.toml"
    text = (tmp_path / "engines.toml").read_text("utf-8")
    weak.write_text(text.replace('"COMPLIANCE"', '"GOVERNANCE"'), "utf-8")
    settings = place.data / "daicho.toml"
    settings.write_text(settings.read_text("utf-8").replace('"COMPLIANCE"', '"GOVERNANCE"'), "utf-8")
    assert run("ledger", "apply", folder, data=place.data).error == "store.not_worm"
    assert "GOVERNANCE" in done("info", data=place.data)[-1]["worm"]
