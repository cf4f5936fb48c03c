"""Which adapter is used: the one place that knows them all."""
