"""Queries on people and rights."""

from collections.abc import Iterator, Mapping, Sequence

from django.db import DEFAULT_DB_ALIAS, connection

from access.models import Credential, Grant, Holding, Person, Post


def person_by_login(login: str) -> Person | None:
    return Person.objects.filter(login=login, active=True).first()


def person(person_id: str) -> Person | None:
    return Person.objects.filter(id=person_id, active=True).first()


def names(person_ids: Sequence[str]) -> dict[str, str]:
    """Person id -> name, also of people who have left."""
    return dict(Person.objects.filter(id__in=set(person_ids)).values_list("id", "name"))


def people() -> list[tuple[Person, list[str]]]:
    """Everybody with the ids of their posts, by login."""
    held: dict[str, list[str]] = {}
    for holder, post in Holding.objects.order_by("post_id").values_list("person_id", "post_id"):
        held.setdefault(holder, []).append(post)
    return [(one, held.get(one.id, [])) for one in Person.objects.order_by("login")]


def granted(person_id: str, action: str) -> frozenset[str]:
    """Ledgers in which the person may do the action, through any post held."""
    return frozenset(
        Grant.objects.filter(
            action=action, post__holding__person_id=person_id, post__holding__person__active=True
        ).values_list("ledger", flat=True)
    )


def may(person_id: str, action: str, ledger: str) -> bool:
    # In words of our own: every operation asks this several times, and Django takes longer to say it than a database to answer.
    with connection.cursor() as cursor:
        cursor.execute(MAY, (action, ledger, person_id))
        return cursor.fetchone() is not None


MAY = """
SELECT 1 FROM daicho_access_grant
JOIN daicho_access_holding ON daicho_access_holding.post_id = daicho_access_grant.post_id
JOIN daicho_access_person ON daicho_access_person.id = daicho_access_holding.person_id
WHERE daicho_access_grant.action = %s AND daicho_access_grant.ledger = %s
    AND daicho_access_person.id = %s AND daicho_access_person.active
LIMIT 1
"""


def holds(person_id: str, post: str) -> bool:
    return Holding.objects.filter(person_id=person_id, post_id=post, person__active=True).exists()


def save_person(person_id: str, login: str, name: str, posts: Sequence[str], catalogue: str = DEFAULT_DB_ALIAS) -> None:
    """Write a person and exactly these posts (fold)."""
    Person.objects.using(catalogue).update_or_create(id=person_id, defaults={"login": login, "name": name})
    held = Holding.objects.using(catalogue)
    held.filter(person_id=person_id).exclude(post_id__in=posts).delete()
    for post in posts:
        held.get_or_create(person_id=person_id, post_id=post)


def save_post(post: str, name_ja: str, name_en: str, catalogue: str = DEFAULT_DB_ALIAS) -> None:
    Post.objects.using(catalogue).update_or_create(id=post, defaults={"name_ja": name_ja, "name_en": name_en})


def save_grants(ledger: str, posts: Mapping[str, Sequence[str]], catalogue: str = DEFAULT_DB_ALIAS) -> None:
    """Make the ledger's grants exactly these: post -> actions (fold)."""
    Grant.objects.using(catalogue).filter(ledger=ledger).delete()
    Grant.objects.using(catalogue).bulk_create(
        Grant(post_id=post, ledger=ledger, action=action)
        for post, actions in sorted(posts.items())
        for action in actions
    )


def credential(person_id: str) -> Credential | None:
    return Credential.objects.filter(person_id=person_id).first()


def credentials() -> Iterator[tuple[str, str]]:
    """(person, password hash) of everybody who has one."""
    yield from Credential.objects.values_list("person_id", "password")


def save_credential(person_id: str, password: str, failures: int = 0, locked_until: str = "") -> None:
    Credential.objects.update_or_create(
        person_id=person_id, defaults={"password": password, "failures": failures, "locked_until": locked_until}
    )


def posts() -> frozenset[str]:
    """Ids of all posts."""
    return frozenset(Post.objects.values_list("id", flat=True))
