"""Who may. Every door asks here: web, API, command line, and every function of `records/`."""
