"""argv and terminal output: one command calls one function below and prints what it gives."""
