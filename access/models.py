"""Columns of people, posts and rights. A fold of the journal, but for `Credential`, which lives in the database alone."""

from django.db import models


class Person(models.Model):
    """A member of staff or of a contractor; each access names one (H-1)."""

    id = models.CharField(primary_key=True, max_length=40)
    login = models.CharField(max_length=64, unique=True)
    name = models.TextField()
    active = models.BooleanField(default=True)


class Post(models.Model):
    """A post or section (所属) to which rights are given."""

    id = models.CharField(primary_key=True, max_length=64)
    name_ja = models.TextField()
    name_en = models.TextField()


class Holding(models.Model):
    """A person holds a post."""

    person = models.ForeignKey(Person, on_delete=models.PROTECT)
    post = models.ForeignKey(Post, on_delete=models.PROTECT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "post"], name="holding_once")]


class Grant(models.Model):
    """A post may do an action in a ledger."""

    post = models.ForeignKey(Post, on_delete=models.PROTECT)
    ledger = models.CharField(max_length=64)
    action = models.CharField(max_length=16)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["post", "ledger", "action"], name="grant_once")]


class Credential(models.Model):
    """A person's password hash and the count of wrong ones. Not in the journal, not in the digest of `info`."""

    person = models.OneToOneField(Person, primary_key=True, on_delete=models.PROTECT)
    password = models.TextField()
    failures = models.IntegerField(default=0)
    locked_until = models.CharField(max_length=32, default="")
