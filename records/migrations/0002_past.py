"""The tables of the past refuse change: the database itself, not only our code (S-2-7)."""

from django.db import migrations

PAST = ("generation", "ledgerversion", "segment", "entry")


def _protect(schema_editor, statement):
    if schema_editor.connection.vendor != "sqlite":
        raise RuntimeError("the catalogue runs on SQLite")
    for table in PAST:
        for verb in ("update", "delete"):
            schema_editor.execute(statement.format(table=table, verb=verb))


def protect(apps, schema_editor):
    _protect(
        schema_editor,
        "CREATE TRIGGER daicho_past_{table}_{verb} BEFORE {verb} ON daicho_records_{table} "
        "BEGIN SELECT RAISE(ABORT, 'the past cannot be changed'); END",
    )


def release(apps, schema_editor):
    _protect(schema_editor, "DROP TRIGGER daicho_past_{table}_{verb}")


class Migration(migrations.Migration):
    dependencies = [("daicho_records", "0001_initial")]
    operations = [migrations.RunPython(protect, release)]
