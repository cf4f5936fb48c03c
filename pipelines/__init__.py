"""When, again, and on which machine: the order of steps that the command line runs; flows of an engine will call the same functions."""
