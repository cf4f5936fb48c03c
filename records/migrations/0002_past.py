"""The tables of the past refuse change: the database itself, not only our code (S-2-7)."""

from django.db import migrations

PAST = ("generation", "ledgerversion", "segment", "entry")


def _sqlite(schema_editor, statement):
    for table in PAST:
        for verb in ("update", "delete"):
            schema_editor.execute(statement.format(table=table, verb=verb))


def protect(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        _sqlite(
            schema_editor,
            "CREATE TRIGGER daicho_past_{table}_{verb} BEFORE {verb} ON daicho_records_{table} "
            "BEGIN SELECT RAISE(ABORT, 'the past cannot be changed'); END",
        )
        return
    # 23000: the error class of a broken constraint, as on SQLite.
    schema_editor.execute(
        "CREATE FUNCTION daicho_past() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'the past cannot be changed' USING ERRCODE = '23000'; END $$"
    )
    for table in PAST:
        schema_editor.execute(
            f"CREATE TRIGGER daicho_past_{table} BEFORE UPDATE OR DELETE OR TRUNCATE ON daicho_records_{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION daicho_past()"
        )
        # ALWAYS: also where a session says that it only replays another server's changes.
        schema_editor.execute(f"ALTER TABLE daicho_records_{table} ENABLE ALWAYS TRIGGER daicho_past_{table}")


def release(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        _sqlite(schema_editor, "DROP TRIGGER daicho_past_{table}_{verb}")
        return
    for table in PAST:
        schema_editor.execute(f"DROP TRIGGER daicho_past_{table} ON daicho_records_{table}")
    schema_editor.execute("DROP FUNCTION daicho_past()")


class Migration(migrations.Migration):
    dependencies = [("daicho_records", "0001_initial")]
    operations = [migrations.RunPython(protect, release)]
