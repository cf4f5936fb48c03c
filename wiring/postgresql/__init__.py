"""The catalogue on PostgreSQL: Django's backend with its errors as ours, and what making, holding and replacing takes there."""
