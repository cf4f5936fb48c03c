"""Text, queries, engines. The index yields ids and counts, never data."""
