"""Measures. `python -m bench NAME --json` prints one JSON object of figures, counts, machine and versions; nothing here is a test."""
