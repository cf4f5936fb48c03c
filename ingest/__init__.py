"""Pixels, codes, characters on a page. Knows nothing of records, rights or stores."""
