"""Columns of the catalogue: a fold of the journal. No personal data but names of files and people; values lie sealed in the store.

Tables of the past (`Generation`, `LedgerVersion`, `Segment`, `Entry`) are protected by triggers of the database (migration 0002).
"""

from django.db import models


class Municipality(models.Model):
    """The one row that says whose installation this is."""

    store_id = models.CharField(primary_key=True, max_length=40)
    name = models.TextField()
    created_at = models.CharField(max_length=32)


class Ledger(models.Model):
    """A ledger (台帳) and its newest definition."""

    id = models.CharField(primary_key=True, max_length=64)
    version = models.IntegerField()


class LedgerVersion(models.Model):
    """One definition of a ledger; old records keep theirs. `images` maps form ids to logical paths in the pinned object version."""

    ledger = models.ForeignKey(Ledger, on_delete=models.PROTECT)
    version = models.IntegerField()
    definition = models.JSONField()
    object_id = models.CharField(max_length=64)
    object_version = models.IntegerField()
    object_digest = models.CharField(max_length=128)
    at = models.CharField(max_length=32)
    person = models.CharField(max_length=40)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["ledger", "version"], name="ledger_version_once")]


class Batch(models.Model):
    """A batch (バッチ): what was brought in together for one ledger."""

    id = models.CharField(primary_key=True, max_length=40)
    ledger = models.ForeignKey(Ledger, on_delete=models.PROTECT)
    name = models.TextField()
    source = models.CharField(max_length=64, db_index=True)
    opened_at = models.CharField(max_length=32)
    opened_by = models.CharField(max_length=40)
    closed_at = models.CharField(max_length=32, default="")
    closed_by = models.CharField(max_length=40, default="")


class Record(models.Model):
    """A record: waiting (a person must look), sealed, or refused (kept in the store, not a record after all)."""

    id = models.CharField(primary_key=True, max_length=40)
    ledger = models.ForeignKey(Ledger, on_delete=models.PROTECT)
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, null=True)
    state = models.CharField(max_length=8)
    generation = models.IntegerField(default=0)
    reason = models.CharField(max_length=32, default="")
    object_version = models.IntegerField()
    object_digest = models.CharField(max_length=128)

    class Meta:
        indexes = [models.Index(fields=["ledger", "state"])]


class Sheet(models.Model):
    """One sheet of a batch, by name, with its outcome (sealed, waiting, refused; empty while it is being read)."""

    batch = models.ForeignKey(Batch, on_delete=models.PROTECT)
    number = models.IntegerField()
    file = models.TextField()
    page = models.IntegerField()
    mark = models.CharField(max_length=64, db_index=True)
    kind = models.CharField(max_length=16)
    state = models.CharField(max_length=8, default="")
    reason = models.CharField(max_length=32, default="")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "number"], name="sheet_once")]


class WaitingItem(models.Model):
    """An item of a waiting record at which a person must look. Confidence in thousandths."""

    record = models.ForeignKey(Record, on_delete=models.PROTECT)
    item = models.CharField(max_length=64)
    reason = models.CharField(max_length=32)
    confidence = models.IntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["record", "item"], name="waiting_item_once")]


class Generation(models.Model):
    """A sealed generation (世代) with its pin and the retention computed when it was sealed. Days as ISO dates or empty."""

    record = models.ForeignKey(Record, on_delete=models.PROTECT)
    number = models.IntegerField()
    ledger_version = models.IntegerField()
    form = models.CharField(max_length=64)
    object_version = models.IntegerField()
    object_digest = models.CharField(max_length=128)
    at = models.CharField(max_length=32)
    person = models.CharField(max_length=40)
    retention_state = models.CharField(max_length=16)
    retention_start = models.CharField(max_length=10)
    retention_due = models.CharField(max_length=10)
    retention_action = models.CharField(max_length=16)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["record", "number"], name="generation_once")]


class PageText(models.Model):
    """The pages of a record have been read whole; the text itself is a derivative beside the object."""

    record = models.OneToOneField(Record, primary_key=True, on_delete=models.PROTECT)
    pages = models.IntegerField()


class Segment(models.Model):
    """A journal segment that the catalogue has taken in."""

    number = models.IntegerField(primary_key=True)
    digest = models.CharField(max_length=64)
    first = models.IntegerField()
    entries = models.IntegerField()


class Entry(models.Model):
    """A journal entry, without its personal part. The index is fed from these rows, so there is no other outbox."""

    number = models.IntegerField(primary_key=True)
    segment = models.ForeignKey(Segment, on_delete=models.PROTECT)
    at = models.CharField(max_length=32)
    person = models.CharField(max_length=40)
    via = models.CharField(max_length=8)
    event = models.CharField(max_length=32)
    ledger = models.CharField(max_length=64)
    batch = models.CharField(max_length=40)
    record = models.CharField(max_length=40, db_index=True)
    data = models.JSONField()
