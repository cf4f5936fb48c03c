"""Bytes, keys, digests, locks, ciphers. Never says "record" or "ledger"."""
