"""Makes the servers of the tests, where they are missing: pinned versions, in a cache folder outside the checkout, whole or not at all.

Each server is one folder of the cache, named for its version, so that a new pin is a new folder. Nothing is started here. `python -m
tests.servers.build` makes all of them and prints a line each. PostgreSQL comes from Debian: it is looked for, never made.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
POM = HERE / "elasticsearch" / "pom.xml"
LAUNCHER = HERE / "elasticsearch" / "Launcher.java"

MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"  # the last community release: the project is archived
VERSITYGW = "v1.8.0"
GO_OLDEST = (1, 25)  # what the go.mod of versitygw asks for; MinIO's asks for less
GO = "1.26.8"
ELASTICSEARCH = re.findall(r"<elasticsearch.version>(.+?)<", POM.read_text("utf-8"))[0]
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
POSTGRES_OLDEST = 14
ROCFL = "1.7.0"

# Building MinIO on two cores from nothing takes several minutes; more than this is a network that does not answer.
LONGEST = 1500


class Missing(Exception):
    """A server cannot be had on this machine; the text says what to install."""


def cache() -> Path:
    """The folder of built servers: DAICHO_SERVERS, else ~/.cache/daicho/servers."""
    return Path(os.environ.get("DAICHO_SERVERS") or Path.home() / ".cache" / "daicho" / "servers").absolute()


def minio() -> Path:
    """The program `minio`, built when it is not in the cache.

    Raises:
        Missing: Go is not on this machine, or the build failed.
    """
    return _go_program("minio", "github.com/minio/minio", MINIO)


def versitygw() -> Path:
    """The program `versitygw`, built when it is not in the cache.

    Raises:
        Missing: Go is not on this machine, or the build failed.
    """
    return _go_program("versitygw", "github.com/versity/versitygw/cmd/versitygw", VERSITYGW)


def elasticsearch() -> Path:
    """A home folder of Elasticsearch that `Launcher.java` starts: `lib/`, `modules/`, `config/`, `plugins/`.

    The server is on Maven Central as jars alone. It lacks the modules that are not published: `GET /`, painless, reindex, security, and the
    tokenizers of analysis-common.

    Raises:
        Missing: Java or Maven is not on this machine, or the jars cannot be had.
    """
    java()

    def make(folder: Path) -> None:
        maven = _program("mvn", "apt install maven")
        jars = folder / "lib"
        _output(
            [
                maven,
                "-B",
                "-q",
                "-f",
                str(POM),
                COPY_DEPENDENCIES,
                "-DincludeScope=runtime",
                f"-DoutputDirectory={jars}",
            ]
        )
        module = folder / "modules" / "transport-netty4"
        module.mkdir(parents=True)
        for jar in [*jars.glob("netty-*.jar"), *jars.glob("transport-netty4-*.jar")]:
            jar.rename(module / jar.name)
        inside = "META-INF/es-plugins/transport-netty4/"
        with zipfile.ZipFile(next(module.glob("transport-netty4-*.jar"))) as archive:
            for name in archive.namelist():
                if name.startswith(inside) and not name.endswith("/"):
                    (module / Path(name).name).write_bytes(archive.read(name))
        for empty in ("config", "plugins", "logs"):
            (folder / empty).mkdir()

    return _made(f"elasticsearch-{ELASTICSEARCH}", make)


def java() -> str:
    """The program `java` of a JDK: the launcher is run as source, which a JRE cannot.

    Raises:
        Missing: no JDK on this machine.
    """
    _program("javac", "apt install openjdk-17-jdk-headless")
    return _program("java", "apt install openjdk-17-jdk-headless")


def postgres() -> Path:
    """The folder of PostgreSQL's programs (`initdb`, `pg_ctl`, `postgres`): Debian's newest, else where `initdb` of PATH leads.

    Raises:
        Missing: PostgreSQL is not on this machine, or too old.
    """
    found = {
        int(folder.parent.name): folder
        for folder in Path("/usr/lib/postgresql").glob("[0-9]*/bin")
        if (folder / "initdb").is_file()
    }
    on_path = shutil.which("initdb")
    newest = found[max(found)] if found else Path(on_path).resolve().parent if on_path else None
    if newest is None or (found and max(found) < POSTGRES_OLDEST):
        raise Missing(f"PostgreSQL {POSTGRES_OLDEST} or later is not on this machine: apt install postgresql")
    return newest


def rocfl() -> Path:
    """The program `rocfl`, another judge of OCFL objects; without its S3 part, which is most of what would have to be built.

    Raises:
        Missing: Rust is not on this machine, or the build failed.
    """
    cargo = _program("cargo", "apt install cargo")

    def make(folder: Path) -> None:
        told = ["--version", ROCFL, "--locked", "--no-default-features", "--root", str(folder)]
        _output([cargo, "install", "rocfl", *told])

    return _made(f"rocfl-{ROCFL}", make) / "bin" / "rocfl"


def judges() -> Path:
    """The program of tests/go, which checks notes and proofs with the libraries of others, pinned in its go.sum.

    Raises:
        Missing: Go is not on this machine, or the build failed.
    """
    source = HERE.parent / "go"
    files = sorted(path for path in source.iterdir() if path.name in ("go.mod", "go.sum") or path.suffix == ".go")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]

    def make(folder: Path) -> None:
        _output([_go(), "build", "-C", str(source), "-o", str(folder / "judges"), "."])

    return _made(f"judges-{digest}", make) / "judges"


PARTS: dict[str, Callable[[], Path]] = {
    "elasticsearch": elasticsearch,
    "judges": judges,
    "minio": minio,
    "postgres": postgres,
    "rocfl": rocfl,
    "versitygw": versitygw,
}


def _go_program(name: str, module: str, version: str) -> Path:
    def make(folder: Path) -> None:
        _output([_go(), "install", f"{module}@{version}"], GOBIN=str(folder))

    return _made(f"{name}-{version}", make) / name


def _go() -> str:
    """A Go that is new enough: this machine's, or else one that this machine's fetches as the module golang.org/toolchain.

    Debian 12 has Go 1.19. A Go of 1.21 or later would fetch by itself, where GOTOOLCHAIN lets it.
    """
    go = _program("go", "apt install golang-go")
    if _go_version(go) >= GO_OLDEST:
        return go
    machine = _output([go, "env", "GOHOSTOS", "GOHOSTARCH"]).split()

    def make(folder: Path) -> None:
        module = f"golang.org/toolchain@v0.0.1-go{GO}.{'-'.join(machine)}"
        fetched = json.loads(_output([go, "mod", "download", "-json", module]))
        shutil.copytree(fetched["Dir"], folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        # Modules carry no modes, and the module cache is read-only.
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" or "tool" in path.parts[-3:-1] else 0o644)

    return str(_made(f"go-{GO}", make) / "bin" / "go")


def _go_version(go: str) -> tuple[int, ...]:
    """(1, 19) of "go version go1.19.8 linux/amd64"."""
    found = re.search(r"\bgo(\d+)\.(\d+)", _output([go, "version"]))
    return tuple(int(number) for number in found.groups()) if found else (0,)


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, filled by `make` beside it and renamed, so that a build cut off leaves nothing that looks whole."""
    folder = cache() / name
    if folder.is_dir():
        return folder
    cache().mkdir(parents=True, exist_ok=True)
    with _alone(cache() / f".{name}.lock"):
        if not folder.is_dir():
            beside = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache()))
            try:
                make(beside)
                # mkdtemp gives 0700; PostgreSQL's user and others read servers of a shared cache.
                beside.chmod(0o755)
                beside.rename(folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    return folder


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Two test runs at once build one after the other."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _program(name: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not on this machine: {remedy}")
    return path


def _output(command: list[str], **environment: str) -> str:
    """What it prints, run to the end in a folder that is no Go module and no Maven project.

    Raises:
        Missing: it failed or took too long; with its last lines.
    """
    what = " ".join(Path(word).name if word.startswith("/") else word for word in command[:3])
    try:
        ended = subprocess.run(
            command,
            # The Go that we chose is the one that builds.
            env=os.environ | {"GOTOOLCHAIN": "local"} | environment,
            cwd=cache(),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{what}: not done in {LONGEST} s; is the network reachable?") from error
    if ended.returncode:
        raise Missing(f"{what} failed: " + " / ".join((ended.stderr + ended.stdout).strip().splitlines()[-6:]))
    return ended.stdout


def main() -> int:
    """Make every part, two at a time: one fetches while another compiles. A line a part with its seconds. 1 when one is missing."""

    def made(name: str) -> bool:
        begun = time.monotonic()
        try:
            said, there = str(PARTS[name]()), True
        except Missing as error:
            said, there = f"MISSING: {error}", False
        print(f"{name}\t{time.monotonic() - begun:.1f} s\t{said}", flush=True)
        return there

    with ThreadPoolExecutor(2) as pool:
        return 0 if all(list(pool.map(made, PARTS))) else 1


if __name__ == "__main__":
    sys.exit(main())
