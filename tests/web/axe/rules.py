"""axe-core, the rules that the pages are held to: fetched by npm as the lock beside this file says, into the cache of the tests' servers.

It is under MPL-2.0, serves tests alone and is never shipped: it comes neither into the checkout nor into the package.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.servers.build import Missing, cache

HERE = Path(__file__).resolve().parent
FILES = ("package.json", "package-lock.json", ".npmrc")
LONGEST = 300


def axe_source() -> str:
    """The script that puts `axe` into a page. A changed lock is a new folder of the cache.

    Raises:
        Missing: npm is not on this machine, or could not fetch the package.
    """
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = cache() / f"axe-{digest}"
    if not folder.is_dir():
        _install(folder)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not on this machine: apt install npm")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".axe.", dir=folder.parent) as made:
        beside = Path(made) / "whole"
        beside.mkdir()
        for name in FILES:
            shutil.copyfile(HERE / name, beside / name)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            ended = subprocess.run(command, cwd=beside, capture_output=True, text=True, timeout=LONGEST)
        except subprocess.TimeoutExpired as error:
            raise Missing(f"npm ci: not done in {LONGEST} s; is the network reachable?") from error
        if ended.returncode:
            raise Missing("npm ci failed: " + " / ".join(ended.stderr.strip().splitlines()[-4:]))
        if not folder.is_dir():  # two test runs at once: the other was first
            beside.rename(folder)
