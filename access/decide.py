"""The decisions: what an actor may do where. Ledger rights are all there is yet; who has none learns nothing."""

from __future__ import annotations

from dataclasses import dataclass

from access import queries
from access.actions import ACTIONS, Action
from core.errors import NotFound, NotPermitted

ADMINISTRATORS = "administrators"
"""The post whose holders register people and ledgers; it carries no right to see a record."""


@dataclass(frozen=True)
class Actor:
    """On whose behalf something is done: a person's id, and the door (`cli`, `web`) through which they came."""

    person: str
    via: str


def ledgers(actor: Actor, *actions: Action) -> frozenset[str]:
    """Ledgers in which the actor may do at least one of the actions."""
    return frozenset().union(*(queries.granted(actor.person, action) for action in actions))


def may(actor: Actor, action: Action, ledger: str) -> bool:
    return queries.may(actor.person, action, ledger)


def require(actor: Actor, action: Action, ledger: str, unknown: NotFound) -> None:
    """Raise unless the actor may do the action in the ledger.

    Who has no right at all in the ledger gets `unknown`, the answer for an id that does not exist; who may do something else in it gets
    `NotPermitted`.
    """
    if may(actor, action, ledger):
        return
    if ledgers(actor, *ACTIONS) & {ledger} and (action != "view"):
        raise NotPermitted(
            "この台帳でこの操作をする権限がありません。必要なときは、文書管理の担当者に権限の付与を依頼してください。",
            "You have no right to do this in this ledger. If you need it, ask the records officer for the right.",
        )
    raise unknown


def require_administrator(actor: Actor) -> None:
    """Raise `NotPermitted` unless the actor may register people and ledgers."""
    if not queries.holds(actor.person, ADMINISTRATORS):
        raise NotPermitted(
            "管理者だけができる操作です。文書管理の担当者に依頼してください。",
            "Only an administrator can do this. Ask the records officer.",
        )
