"""Opaque ids. They outlive keys, so they say nothing about whom they name."""

from __future__ import annotations

import base64
import secrets
from typing import Protocol


class IdSource(Protocol):
    """Gives ids that nobody can guess."""

    def new(self, prefix: str) -> str:
        """A fresh id such as `r-mfzwizltoq2gk3tpojqw4zzanq`; `prefix` tells people its kind."""
        ...


class RandomIds:
    """128 random bits in lower-case base32."""

    def new(self, prefix: str) -> str:
        return f"{prefix}-{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"
