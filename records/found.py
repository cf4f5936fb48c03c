"""Founding an installation, its people and its ledgers: what must be there before the first sheet."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence

from access import queries as access_queries
from access.decide import ADMINISTRATORS, Actor, ledgers, require_administrator
from access.signin import random_password, require_login_form, set_password, unknown_person
from core.clock import stamp
from core.errors import Conflict, NotFound, NotReady
from records import queries
from records.ledger import Definition, Label, Template, from_json, to_json
from records.models import LedgerVersion
from records.operation import operation
from records.stores import Stores
from storage.canonical import canonical
from storage.cipher import decrypt, encrypt
from storage.port import NewVersion, Pin

MARKS_KEY = "marks"
"""Key whose secret turns digests of scans into marks that say nothing about the page."""

FIRST_POSTS: dict[str, Label] = {
    ADMINISTRATORS: {"ja": "管理者", "en": "Administrators"},
    "records-office": {"ja": "文書管理課", "en": "Records office"},
}
"""The posts that a new installation has; its first person holds both."""


def found(stores: Stores, municipality: str, login: str, name: str) -> str:
    """Write the first entries of a new store: the municipality, the administrators' post, its first holder. Returns the person's id."""
    require_login_form(login)
    person = stores.ids.new("p")
    stores.keys.create([MARKS_KEY, person])
    with operation(stores, Actor(person, "cli")) as work:
        if queries.municipality() is not None:
            raise Conflict(
                "このデータフォルダーには、もう導入されています。別のフォルダーを --data で指定してください。",
                "This data folder is already in use. Name another one with --data.",
                code="store.exists",
            )
        work.note("store_created", data={"store": stores.id, "name": municipality})
        for post, label in FIRST_POSTS.items():
            work.note("post_saved", data={"post": post, "name": label})
        work.note(
            "person_saved",
            data={"person": person, "posts": sorted(FIRST_POSTS)},
            personal={"login": login, "name": name},
            key=person,
        )
    return person


def save_person(stores: Stores, actor: Actor, login: str, name: str, posts: Sequence[str]) -> str:
    """Register a person, or give a registered one this name and exactly these posts. Returns the person's id.

    Raises:
        NotPermitted: the actor is no administrator.
        NotFound: (`post.not_found`) a post that no ledger or file has named yet.
    """
    require_login_form(login)
    known = access_queries.person_by_login(login)
    person = known.id if known else stores.ids.new("p")
    stores.keys.create([person])
    with operation(stores, actor) as work:
        require_administrator(actor)
        if missing := sorted(set(posts) - access_queries.posts()):
            raise NotFound(
                f"所属「{'、'.join(missing)}」はまだありません。台帳の rights.yaml に書いて `daicho ledger apply` を実行してください。",
                f"There is no post {', '.join(missing)} yet. Name it in a ledger's rights.yaml and run `daicho ledger apply`.",
                code="post.not_found",
            )
        work.note(
            "person_saved",
            data={"person": person, "posts": sorted(set(posts))},
            personal={"login": login, "name": name},
            key=person,
        )
    return person


def person_by_login(login: str) -> str:
    """The id of the active person with this login; `NotFound` (`person.not_found`)."""
    person = access_queries.person_by_login(login)
    if person is None:
        raise unknown_person()
    return person.id


def define(stores: Stores, actor: Actor, template: Template) -> int:
    """Make the template the newest definition of its ledger; returns its version. The same definition again changes nothing.

    The blank forms are sealed in an object of their own, a version per definition. Posts that rights name are registered.
    """
    definition = template.definition
    require_administrator(actor)
    require_worm(stores, definition)
    known = queries.ledger_version(definition.id)
    unchanged = known is not None and canonical(known.definition) == canonical(to_json(definition))
    if known is not None and unchanged and images(stores, known) == dict(template.images):
        version, pin, object_id = known.version, None, known.object_id
    else:
        object_id = known.object_id if known else stores.ids.new("l")
        version = known.version + 1 if known else 1
        pin = _seal_definition(stores, actor, object_id, template)
    with operation(stores, actor) as work:
        require_administrator(actor)
        for post, label in template.posts.items():
            work.note("post_saved", data={"post": post, "name": label})
        if pin is not None:
            work.note(
                "ledger_defined",
                ledger=definition.id,
                data={
                    "version": version,
                    "definition": to_json(definition),
                    "object": object_id,
                    "pin": {"version": pin.number, "digest": pin.digest},
                },
            )
        work.note("rights_set", ledger=definition.id, data={"posts": {k: list(v) for k, v in template.rights.items()}})
    return version


def _seal_definition(stores: Stores, actor: Actor, object_id: str, template: Template) -> Pin:
    (key,) = stores.keys.create([object_id])
    files = {f"form-{form}.png.age": encrypt(image, key.recipient) for form, image in template.images.items()}
    files["definition.json.age"] = encrypt(canonical(to_json(template.definition)), key.recipient)
    number = stores.objects.head(object_id) + 1
    made = NewVersion(object_id, number, files, stamp(stores.clock.now()), actor.person, "definition")
    return stores.objects.seal([made])[0]


def images(stores: Stores, version: LedgerVersion) -> Mapping[str, bytes]:
    """Form id -> PNG of the blank form, of a definition version."""
    pin = Pin(version.object_id, version.object_version, version.object_digest)
    secret = stores.keys.get(version.object_id).secret
    return {
        form["id"]: decrypt(stores.objects.read(pin, f"form-{form['id']}.png.age"), secret)
        for form in version.definition["forms"]
    }


def unknown_ledger() -> NotFound:
    """The answer for a ledger that does not exist or of which the actor may not know."""
    return NotFound(
        "その台帳はありません。`daicho ledger list` で確かめてください。",
        "There is no such ledger. Look at `daicho ledger list`.",
        code="ledger.not_found",
    )


def definition_of(ledger: str, version: int | None = None) -> tuple[Definition, int]:
    """A ledger's definition and its version (the newest when None); `NotFound` for an unknown one. Asks no rights: callers have."""
    row = queries.definition(ledger, version)
    if row is None:
        raise unknown_ledger()
    return _parsed(row[0]), row[1]


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Definition:
    """By its text, since one process may look at several catalogues. Parsing takes longer than everything else that an edit computes."""
    return from_json(json.loads(text))


def require_worm(stores: Stores, definition: Definition) -> None:
    """`NotReady` (`store.not_worm`) when the ledger requires WORM and the store cannot be shown to be one."""
    if definition.worm and not stores.objects.worm():
        raise NotReady(
            f"台帳「{definition.id}」は書き換えできない保管（WORM）を求めていますが、この保管庫はそうではありません。`daicho info` で理由を確かめ、"
            "オブジェクトロックの効く S3 へ `daicho migrate` で移してください。",
            f'The ledger "{definition.id}" requires WORM, which this store is not. See why with `daicho info`; move to S3 with Object Lock with '
            "`daicho migrate`.",
            code="store.not_worm",
        )


def visible_ledgers(actor: Actor) -> list[tuple[Definition, int]]:
    """(definition, version) of every ledger in which the actor may do anything."""
    permitted = ledgers(actor, "view", "capture", "settle", "edit", "define")
    return [(from_json(row.definition), row.version) for row in queries.ledgers(permitted)]


def people(actor: Actor) -> list[tuple[str, str, list[str]]]:
    """(login, name, ids of posts) of everybody, by login; for administrators."""
    require_administrator(actor)
    return [(person.login, person.name, posts) for person, posts in access_queries.people()]


def new_password(stores: Stores, actor: Actor, login: str) -> str:
    """Give a person a new random password, which is returned and stored nowhere but as a hash."""
    person = person_by_login(login)
    password = random_password()
    with operation(stores, actor) as work:
        require_administrator(actor)
        set_password(person, password)
        work.note("password_set", data={"person": person})
    return password


def municipality_name() -> str:
    """Whose installation this is; "" before it is founded."""
    row = queries.municipality()
    return row.name if row else ""
