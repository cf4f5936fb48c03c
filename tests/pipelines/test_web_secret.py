"""The secret that signs sessions survives what a power cut leaves."""

from __future__ import annotations

from pathlib import Path

from tests.installed import Installation, copied, done


def test_an_empty_secret_is_made_again_and_a_whole_one_kept(small: Installation, tmp_path: Path) -> None:
    here = copied(small, tmp_path)
    secret = here.data / "web.secret"
    before = secret.read_bytes()
    done("ledger", "list", data=here.data)
    assert secret.read_bytes() == before
    secret.chmod(0o600)
    secret.write_bytes(b"")
    done("ledger", "list", data=here.data)
    assert len(secret.read_bytes()) > 40
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in here.data.glob("web.secret*")] == ["web.secret"]
