"""The index on an Elasticsearch 8 cluster, with nothing but what every distribution has: no plugin, no script.

What stands where is as in `search.embedded`: a text is a row of character pairs, and a phrase of pairs is exactly a
substring. A pair is written as one ASCII word (`u3042u3044`), which the core `standard` tokenizer keeps whole, in
`any`, and headed by a digest of its item in `items`. No source is stored. Nothing is scored.

Elasticsearch has no transactions. What makes a commit here:

- Nothing is seen before the refresh that ends a `write` (the index never refreshes by itself).
- A server that restarts, or moves a shard, shows what was written so far; and shards are refreshed one after the other.
  So every shard holds a mark, "open" from the first change of a commit, the commit's number from its last. Every answer
  brings the marks of the shards it came from, seen at the same moment as the hits: when one is open or they differ,
  the answer is not a whole commit and is asked again, at last `Busy`.
- The mark of one shard is also the claim: who writes takes it by compare-and-set, raises its number (the fence) and
  sends the number as the version of all it writes, so that nothing that arrives late from a writer that was given up
  goes over what came after. `upto` stands in the claim and is written last.
- A write that is broken off leaves the claim open, and the index answers as before. What of it the next `write` does
  not bring again comes up, half written, with that one; the feed brings it, since `upto` has not moved.
- What was left over against our will is seen only when it is too late; then `upto` goes back to where it was, so that
  whoever feeds comes again, and is told again, until it is right.

An index lies behind one alias for reading, which `renewed` turns to another index in one step, and one of its own for
writing, so that an index that is gone is not made again by a late write.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any as Anything

from elastic_transport import SerializationError, TransportError
from elasticsearch import (
    ApiError,
    BadRequestError,
    ConflictError,
    Elasticsearch,
    NotFoundError,
    UnsupportedProductError,
)

from core.errors import BadInput, Busy, DaichoError, IndexOutdated, NotReady, StorageFull, StoreDamaged, Unreachable
from core.settings import ElasticsearchSettings
from search import plan
from search.normalise import FINGERPRINT, normalise
from search.port import All, Any, Contains, Document, Equals, Has, Not, Page, Query, Scope, SearchIndex
from search.terms import exact, pairs

LAYOUT = 1
"""Raised with every change of the mapping or of how tokens are written."""

MAJOR = 8
"""The server's major version; the client's is the same."""

_BUCKETS = 65_000
"""Values of one facet; by default a cluster refuses more than 65,536 buckets."""

_TERM = 32_000
"""Bytes of a keyword; the engine refuses more than 32,766."""

_TERMS = 10_000
"""Values in one `terms` query; by default a cluster refuses more than 65,536."""

_DEPTH = 12
"""Nested choices written as they are; a cluster refuses more than 30 levels, so deeper ones are wrapped anew."""

_PIECE_BYTES = 5_000_000
_PIECE_ACTIONS = 1000
_WALK = 1000

_SILENCE = 10.0
"""Seconds after which a claim that has not moved is taken from its writer, who is dead or will find out."""

_WHOLE = (0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.4, 0.4, 0.4)
"""Pauses in seconds while an answer is not of a whole commit."""

_PRESSED = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Pauses in seconds while the cluster turns away parts of a bulk request because its queues are full."""

_CLAIM = "0"
"""Routing of the claim; marks of other shards have others."""

_SORT = [{"sort": "desc"}, {"record": "asc"}, {"generation": "desc"}, {"partition": "asc"}]
_NOTHING: Mapping[str, Anything] = {"match_none": {}}
_MARKS: Mapping[str, Anything] = {"exists": {"field": "mark"}}


def _mapping() -> dict[str, Anything]:
    words = {"type": "text", "analyzer": "standard", "norms": False, "index_options": "positions"}
    return {
        "dynamic": "strict",
        "_meta": {"layout": LAYOUT, "normaliser": FINGERPRINT},
        "_source": {"includes": ["claim"]},
        "properties": {
            "any": words,
            "items": words,
            "exact": {"type": "keyword", "doc_values": False},
            "record": {"type": "keyword"},
            "partition": {"type": "keyword"},
            "generation": {"type": "integer"},
            "sort": {"type": "integer"},
            "latest": {"type": "boolean"},
            "facets": {"type": "keyword"},
            "mark": {"type": "keyword"},
            "claim": {"type": "object", "enabled": False},
        },
    }


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _word(pair: str) -> str:
    return "".join(f"u{ord(c):x}" for c in pair)


def _mark_id(routing: str) -> str:
    return f"mark-{routing}"


def _routing(record: str) -> str:
    # All generations of a record in one shard, so that no reader sees them half exchanged.
    return _short(record)


def _id(record: str, generation: int) -> str:
    return hashlib.blake2b(json.dumps([record, generation]).encode(), digest_size=16).hexdigest()


def _facet(name: str, value: str) -> str:
    return f"{_short(name)}={value}"


def _keepable(term: str) -> bool:
    """Whether the engine can keep the term as it is."""
    return plan.has_utf8(term) and len(term.encode()) <= _TERM


def _unreachable(cause: str) -> DaichoError:
    return Unreachable(
        f"検索サーバー（Elasticsearch）から応答がありません（{cause}）。サーバーとネットワークを確かめてください。記録は無事です。",
        f"The search server (Elasticsearch) does not answer ({cause}). Check the server and the network. The records are safe.",
        code="index.unreachable",
    )


def _busy() -> DaichoError:
    return Busy(
        "別の処理が検索索引に書き込み中です。しばらくしてからもう一度実行してください。",
        "Another process is writing the search index. Try again later.",
        code="index.busy",
    )


def _damaged() -> DaichoError:
    return StoreDamaged(
        "検索索引が壊れています。`daicho reindex` で作り直してください(台帳の記録は無事です)。",
        "The search index is damaged. Make it again with `daicho reindex` (the records are not affected).",
        code="index.damaged",
    )


def _outdated() -> DaichoError:
    return IndexOutdated(
        "検索索引は別の版で作られています。`daicho reindex` で作り直してください。",
        "The search index was made by another version. Make it again with `daicho reindex`.",
    )


def _unsuitable(what: str) -> DaichoError:
    return NotReady(
        f"検索サーバーをこのままでは使えません（{what}）。Elasticsearch {MAJOR} を、設定 [index] のとおりに用意してください。",
        f"The search server cannot be used as it is ({what}). Provide Elasticsearch {MAJOR} as [index] of the settings says.",
        code="index.unsuitable",
    )


def _bad_document() -> DaichoError:
    return BadInput(
        "検索用の文書が正しくありません。並び順・世代・識別子を確かめてください。",
        "The document for the index is not valid: check its sort, generation and ids.",
        code="index.document",
    )


def _coded(status: int, kind: str, reason: str) -> DaichoError:
    """The error that an answer means. `reason` is read but never shown: it may quote what was asked."""
    if kind == "cluster_block_exception" and ("read-only-allow-delete" in reason or "flood-stage" in reason):
        return StorageFull(
            "検索サーバーの空き容量がありません。空きを作ってからもう一度実行してください。",
            "The search server has no room left. Free some and try again.",
            code="index.full",
        )
    if status == 401 or (status == 403 and kind == "security_exception"):
        return NotReady(
            "検索サーバーに入れません。設定 [index] の user と password、権限を確かめてください。",
            "The search server refuses us. Check user and password of [index] in the settings, and the user's rights.",
            code="index.credentials",
        )
    if kind in ("too_many_clauses", "too_many_nested_clauses"):
        return BadInput(
            "検索の条件が多すぎます。条件を減らしてください。",
            "The search has too many conditions. Use fewer.",
            code="search.clauses",
        )
    if kind == "search_context_missing_exception":
        return _unreachable(kind)
    if kind.startswith("corrupt") or status == 404:
        return _damaged()
    if status == 409 or kind in ("version_conflict_engine_exception", "resource_already_exists_exception"):
        return _busy()
    if status == 413 or kind in ("document_parsing_exception", "mapper_parsing_exception"):
        return _bad_document()
    if status in (408, 429) or status >= 500:
        return _unreachable(kind or f"HTTP {status}")
    return _unsuitable(kind or f"HTTP {status}")


def _cause(error: ApiError) -> tuple[int, str, str]:
    """Status, type and reason; a search that failed tells its real cause some levels down."""
    told = error.body.get("error") if isinstance(error.body, dict) else None
    if not isinstance(told, dict):
        return error.status_code, "", ""
    while told.get("type") in _WRAPPING:
        failed = [shard["reason"] for shard in told.get("failed_shards", [])]
        below = next((cause for cause in (*failed, told.get("caused_by"), *told.get("root_cause", [])) if cause), None)
        if below is None or below == told:
            break
        told = below
    return error.status_code, str(told.get("type", "")), str(told.get("reason", ""))


_WRAPPING = frozenset({"search_phase_execution_exception", "query_shard_exception"})


@contextmanager
def _edge() -> Iterator[None]:
    """Turns what the client throws into a coded error."""
    try:
        yield
    except UnsupportedProductError as error:
        raise _unsuitable("not Elasticsearch") from error
    except ApiError as error:
        raise _coded(*_cause(error)) from error
    except SerializationError as error:
        raise _unsuitable("not Elasticsearch") from error
    except TransportError as error:
        raise _unreachable(type(error).__name__) from error


@dataclass(frozen=True)
class _Claim:
    """The right to write, as it stands in the claim's document.

    `index`: the index itself. `routings`: one for each shard, the first is the claim's own. `place`: sequence number and
    primary term of the document. `fence`: raised by each writer. `commit`: the fence of the last writer that changed
    documents. `open`: documents are being changed. `done`: nothing was written after the last refresh.
    """

    index: str
    routings: tuple[str, ...]
    place: tuple[int, int]
    fence: int
    commit: int
    writer: str
    upto: int
    open: bool
    done: bool

    @property
    def target(self) -> str:
        return _own_alias(self.index)

    def body(self) -> dict[str, Anything]:
        """The document, which is the mark of its shard too."""
        return {
            "sort": -1,
            "mark": self.mark(),
            "claim": {
                "routings": list(self.routings),
                "fence": self.fence,
                "commit": self.commit,
                "writer": self.writer,
                "upto": self.upto,
                "open": self.open,
                "done": self.done,
            },
        }

    def mark(self) -> str:
        return f"{LAYOUT} {FINGERPRINT} {len(self.routings)} {'open' if self.open else self.commit}"


def _own_alias(index: str) -> str:
    return f"{index}-itself"


def _connected(where: ElasticsearchSettings) -> Elasticsearch:
    """A client of the cluster, whose version has been looked at."""
    addresses = [address.strip() for address in where.url.split(",") if address.strip()]
    more: dict[str, Anything] = {}
    if where.user:
        # Encoded here: the client takes ASCII alone.
        more["basic_auth"] = base64.b64encode(f"{where.user}:{where.password}".encode()).decode()
    if where.ca:
        more["ca_certs"] = where.ca
    try:
        if where.ca:
            # The client would say at the first request that the server does not answer.
            ssl.create_default_context(cafile=where.ca)
        client = Elasticsearch(addresses, request_timeout=where.timeout, max_retries=0, retry_on_timeout=False, **more)
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(
            "設定 [index] の url（http://ホスト:ポート）か ca が正しくありません。直してから、もう一度実行してください。",
            "url (http://host:port) or ca of [index] in the settings is wrong. Correct it and run the command again.",
            code="settings.value",
        ) from error
    with _edge():
        nodes = client.nodes.info(metric="os", filter_path="nodes.*.version")
    versions = {str(node["version"]) for node in nodes.get("nodes", {}).values()}
    if not versions or any(version.partition(".")[0] != str(MAJOR) for version in versions):
        raise _unsuitable(", ".join(sorted(versions)) or "no version")
    return client


class ElasticsearchIndex:
    """A `SearchIndex` on the cluster `where`, for the store `store_id`; made (empty) when it is not there.

    Any number of processes may read. Whoever writes holds the claim for the length of one `write`, others get `Busy`;
    a writer of which nothing has been seen for ten seconds is given up. Threads of one process wait for each other.

    Raises, besides what the port says: `Unreachable` (`index.unreachable`) when the cluster does not answer in time,
    `NotReady` for a wrong password or missing rights (`index.credentials`) or another version (`index.unsuitable`),
    `StoreDamaged` (`index.damaged`).
    """

    def __init__(self, where: ElasticsearchSettings, store_id: str) -> None:
        self._open(_connected(where), where, _base(where, store_id))

    def _open(self, client: Elasticsearch, where: ElasticsearchSettings, alias: str) -> None:
        self._client = client
        self._alias = alias
        self._timeout = f"{where.timeout}s"
        self._writer = secrets.token_hex(8)
        self._writing = threading.Lock()
        self._rival: tuple[tuple[int, int], float] = ((-1, -1), 0.0)
        if not _behind(client, alias):
            _make(client, where, f"{alias}-{_last(_numbered(client, alias)) + 1}", alias)
        with _edge():
            mappings = client.indices.get_mapping(index=alias)
        if any(told["mappings"].get("_meta") != _mapping()["_meta"] for told in mappings.values()):
            raise _outdated()
        if len(mappings) != 1:
            raise _damaged()
        _mark_up(client, *mappings)

    @classmethod
    def renewed(
        cls, where: ElasticsearchSettings, store_id: str, fill: Callable[[SearchIndex], None]
    ) -> ElasticsearchIndex:
        """Fill a new index beside the present one, which goes on answering, then put it in its place in one step.

        Works where the present one is outdated, damaged or missing. What a renewal that was broken off left is removed
        first, so there must be one at a time.
        """
        client, alias = _connected(where), _base(where, store_id)
        made = _numbered(client, alias)
        for index in set(made) - set(_behind(client, alias)):
            _remove(client, index)
        fresh = f"{alias}-{_last(made) + 1}"
        _make(client, where, fresh, None)
        try:
            filling = cls.__new__(cls)
            filling._open(client, where, _own_alias(fresh))
            fill(filling)
            # Looked at only now: while we filled, whoever found the index gone has made an empty one.
            made = _numbered(client, alias)
            actions: list[dict[str, Anything]] = [
                # An index that is not ours may have been put behind the alias: it is not ours to remove either.
                {"remove_index": {"index": index}} if index in made else {"remove": {"index": index, "alias": alias}}
                for index in _behind(client, alias)
            ]
            with _edge():
                client.indices.update_aliases(actions=[*actions, {"add": {"index": fresh, "alias": alias}}])
        except BaseException:
            with suppress(DaichoError):
                if fresh not in _behind(client, alias):
                    _remove(client, fresh)
            raise
        # One that was made since we looked stands behind the alias too.
        for index in set(_numbered(client, alias)) - {fresh}:
            _remove(client, index)
        return cls(where, store_id)

    def write(self, documents: Iterable[Document], gone: Iterable[str], upto: int) -> None:
        removed = frozenset(gone)
        # All of them before anything is sent: a document that cannot be written, or made, must leave no trace.
        given = list(plan.checked(documents, removed))
        written: dict[str, set[int]] = {record: set() for record in removed if _keepable(record)}
        for document in given:
            _check(document)
            written.setdefault(document.record, set()).add(document.generation)
        with self._writing:
            claim, torn = self._claimed(bool(written))
            before, done = claim.upto, False
            try:
                if claim.open:
                    claim = self._replaced(claim, given, written, torn)
                claim = self._put(claim, replace(claim, upto=upto, open=False))
                self._refresh(claim)
                try:
                    self._assert_written(claim, written)
                except StoreDamaged:
                    self._refresh(self._put(claim, replace(claim, upto=before)))
                    raise
                if _behind(self._client, self._alias) != [claim.index]:
                    # It was exchanged meanwhile: what we wrote has gone with the old one.
                    raise _busy()
                done = True
            except StoreDamaged as error:
                if claim.index not in _behind(self._client, self._alias):
                    raise _busy() from error
                raise
            finally:
                # Not worth an error of its own: a commit stands, and others take the claim after a while.
                with suppress(DaichoError):
                    self._put(self._claim, replace(self._claim, writer="", done=done))

    def upto(self) -> int:
        # Of what is visible, whole or not: whoever feeds must learn where a broken write has to begin again.
        hits = self._found(query={"ids": {"values": [_mark_id(_CLAIM)]}}, source_includes=["claim"])["hits"]["hits"]
        return int(hits[0]["_source"]["claim"]["upto"]) if hits else 0

    def count(self) -> int:
        return self._ask({"match_all": {}}, size=0).total

    def search(
        self, query: Query, scope: Scope, *, past: bool = False, limit: int = 50, cursor: str | None = None
    ) -> Page:
        plan.check_limit(limit)
        query = plan.prepared(query)
        after = None if cursor is None else plan.key_of(cursor, query, scope, past)
        answer = self._ask(_inside(query, plan.groups(scope), past), size=limit + 1, after=after)
        keys = answer.keys[:limit]
        return Page(
            hits=tuple(plan.hit(key) for key in keys),
            total=answer.total,
            cursor=plan.cursor_after(keys[-1], query, scope, past) if len(answer.keys) > limit else None,
        )

    def facet(self, facet: str, query: Query, scope: Scope, *, past: bool = False) -> dict[str, int]:
        query = plan.prepared(query)
        open_groups = [group for group in plan.groups(scope) if plan.facet_permitted(facet, group[0])]
        head = _facet(facet, "")
        terms = {"field": "facets", "include": f"{head}.*", "size": _BUCKETS, "shard_size": _BUCKETS}
        values = self._ask(_inside(query, open_groups, past), size=0, values=terms).values
        if values["sum_other_doc_count"] or values["doc_count_error_upper_bound"]:
            raise BadInput(
                "値の種類が多すぎて数えられません。条件で絞ってください。",
                "This item has too many different values to count. Narrow the search.",
                code="search.facet",
            )
        return {str(bucket["key"])[len(head) :]: int(bucket["doc_count"]) for bucket in values["buckets"]}

    def _found(self, **request: Anything) -> Mapping[str, Anything]:
        """The cluster's answer to one search; an index that is exchanged at this moment is missed once, not for good."""
        for last in (False, False, True):
            try:
                with _edge():
                    answer = self._client.search(index=self._alias, allow_partial_search_results=False, **request)
                return dict(answer)
            except (StoreDamaged, Unreachable) as error:
                if last or not isinstance(error.__cause__, ApiError):
                    raise
                time.sleep(0.05)
        raise AssertionError

    def _ask(
        self,
        asked: Mapping[str, Anything],
        *,
        size: int,
        after: plan.Key | None = None,
        values: Mapping[str, Anything] | None = None,
    ) -> _Answer:
        """Keys behind `after`, the total, and the terms aggregation `values` of what is asked, of one whole commit.

        `Busy` when a commit has been under way for too long, or lies broken off on a server that restarted.
        """
        more: dict[str, Anything] = {}
        if after is not None:
            # A forged cursor may hold what has no UTF-8.
            record, partition = (word.encode("utf-8", "replace").decode() for word in (after[1], after[3]))
            more["search_after"] = [-after[0], record, -after[2], partition]
        aggregations: dict[str, Anything] = {"marks": {"terms": {"field": "mark", "size": 10}}}
        if values:
            aggregations["values"] = {"terms": values}
        for pause in (*_WHOLE, None):
            answer = self._found(
                query={"bool": {"should": [asked, _MARKS]}},
                aggregations=aggregations,
                size=size,
                sort=_SORT,
                source=False,
                track_total_hits=True,
                **more,
            )
            marks = _whole(answer["aggregations"]["marks"]["buckets"])
            if marks:
                places = [hit["sort"] for hit in answer["hits"]["hits"]]
                return _Answer(
                    keys=[(-s, record, -generation, part) for s, record, generation, part in places if s >= 0],
                    total=answer["hits"]["total"]["value"] - marks,
                    values=answer["aggregations"].get("values", {}),
                )
            if pause is not None:
                time.sleep(pause)
        raise _busy()

    def _claimed(self, changing: bool) -> tuple[_Claim, bool]:
        """Take the claim; also says whether something is written that cannot be seen: the write before was broken off."""
        with _edge():
            found = self._client.get(index=self._alias, id=_mark_id(_CLAIM), routing=_CLAIM)
        told = found["_source"]["claim"]
        held = _Claim(
            index=found["_index"],
            place=(int(found["_seq_no"]), int(found["_primary_term"])),
            routings=tuple(told["routings"]),
            fence=told["fence"],
            commit=told["commit"],
            writer=told["writer"],
            upto=told["upto"],
            open=told["open"],
            done=told["done"],
        )
        if held.writer not in ("", self._writer):
            now = time.monotonic()
            if self._rival[0] != held.place:
                self._rival = (held.place, now)
            if now - self._rival[1] < _SILENCE:
                raise _busy()
        taken = replace(held, fence=held.fence + 1, writer=self._writer, open=held.open or changing, done=False)
        return self._put(held, taken), not held.done

    def _put(self, held: _Claim, claim: _Claim) -> _Claim:
        """Write the claim's document unless somebody else has since `held`: `Busy` then."""
        if held.open and not claim.open:
            claim = replace(claim, commit=claim.fence)
        with _edge():
            answer = self._client.index(
                index=claim.target,
                id=_mark_id(_CLAIM),
                routing=_CLAIM,
                document=claim.body(),
                if_seq_no=held.place[0],
                if_primary_term=held.place[1],
                require_alias=True,
                timeout=self._timeout,
            )
        self._claim = replace(claim, place=(int(answer["_seq_no"]), int(answer["_primary_term"])))
        self._signed = time.monotonic()
        return self._claim

    def _replaced(
        self, claim: _Claim, given: Sequence[Document], written: Mapping[str, set[int]], torn: bool
    ) -> _Claim:
        """Send everything but the claim itself, between open marks and those of this commit."""

        def marks(state: _Claim) -> Iterator[tuple[bytes, ...]]:
            for routing in claim.routings[1:]:
                body = {"sort": -1, "mark": state.mark()}
                yield _action("index", _mark_id(routing), routing, claim.fence), _bytes(body)

        def left_over() -> Iterator[tuple[bytes, ...]]:
            for records in _some_of(sorted(written)):
                for record, generation in self._walk(claim.target, {"terms": {"record": records}}):
                    if generation not in written[record]:
                        yield (_action("delete", _id(record, generation), _routing(record), claim.fence),)

        def new() -> Iterator[tuple[bytes, ...]]:
            for document in given:
                place = (_id(document.record, document.generation), _routing(document.record))
                yield _action("index", *place, claim.fence), _bytes(_body(document))

        claim = self._bulk(claim, marks(claim))
        claim = self._bulk(claim, chain(left_over(), new()))
        if torn:
            # What the broken write added can be found only now; readers see the open marks and wait a moment.
            self._refresh(claim)
            claim = self._bulk(claim, left_over())
        return self._bulk(claim, marks(replace(claim, open=False, commit=claim.fence)))

    def _bulk(self, claim: _Claim, actions: Iterator[tuple[bytes, ...]]) -> _Claim:
        """Send the actions in pieces, and between them, now and then, the sign that we live."""
        piece: list[tuple[bytes, ...]] = []
        size = 0
        for action in actions:
            weight = sum(map(len, action))
            if piece and (size + weight > _PIECE_BYTES or len(piece) == _PIECE_ACTIONS):
                claim = self._send(claim, piece)
                piece, size = [], 0
            piece.append(action)
            size += weight
        return self._send(claim, piece) if piece else claim

    def _send(self, claim: _Claim, piece: list[tuple[bytes, ...]]) -> _Claim:
        """One bulk request; what a cluster under pressure turns away is sent again after a pause, a few times."""
        if time.monotonic() - self._signed > _SILENCE / 10:
            claim = self._put(claim, claim)
        for pause in (*_PRESSED, None):
            items: list[Anything] = [{"piece": {"status": 429}} for _ in piece]
            with _edge():
                try:
                    items = self._client.bulk(
                        operations=[line for action in piece for line in action],  # type: ignore[misc]  # lines go as they are
                        index=claim.target,
                        require_alias=True,
                        timeout=self._timeout,
                        filter_path="items.*.status,items.*.error",
                    )["items"]
                except ApiError as error:
                    if error.status_code != 429 or isinstance(_coded(*_cause(error)), StorageFull):
                        raise
            turned_away = []
            for action, item in zip(piece, items, strict=True):
                ((kind, told),) = item.items()
                status, cause = told["status"], told.get("error", {})
                if status < 300 or (kind == "delete" and status == 404 and not cause):
                    continue
                coded = _coded(status, cause.get("type", ""), cause.get("reason", ""))
                if status != 429 or isinstance(coded, StorageFull):
                    raise coded
                turned_away.append(action)
            if not turned_away:
                break
            if pause is None:
                raise _unreachable("es_rejected_execution_exception")
            time.sleep(pause)
            piece = turned_away
        return claim

    def _walk(self, index: str, asked: Mapping[str, Anything]) -> Iterator[tuple[str, int]]:
        """Record and generation of all that is asked, of one moment, however many requests it takes."""
        with _edge():
            point = self._client.open_point_in_time(index=index, keep_alive="5m")["id"]
        try:
            more: dict[str, Anything] = {}
            while True:
                with _edge():
                    answer = self._client.search(
                        pit={"id": point, "keep_alive": "5m"},
                        query={"bool": {"filter": [asked]}},
                        size=_WALK,
                        sort=_SORT,
                        source=False,
                        track_total_hits=False,
                        allow_partial_search_results=False,
                        **more,
                    )
                point = answer["pit_id"]
                hits = answer["hits"]["hits"]
                for hit in hits:
                    yield hit["sort"][1], hit["sort"][2]
                if len(hits) < _WALK:
                    return
                # Its last word is the engine's own, which a point in time adds to the order.
                more["search_after"] = hits[-1]["sort"]
        finally:
            with suppress(DaichoError), _edge():
                self._client.close_point_in_time(id=point)

    def _refresh(self, claim: _Claim) -> None:
        with _edge():
            answer = self._client.indices.refresh(index=claim.target)
        if answer["_shards"]["failed"]:
            raise _unreachable("refresh")

    def _assert_written(self, claim: _Claim, written: Mapping[str, set[int]]) -> None:
        # Generations left over would keep old personal data searchable.
        for records in _some_of(sorted(written)):
            with _edge():
                answer = self._client.search(
                    index=claim.target,
                    query={"bool": {"filter": [{"terms": {"record": records}}]}},
                    size=0,
                    track_total_hits=True,
                    allow_partial_search_results=False,
                )
            if answer["hits"]["total"]["value"] != sum(len(written[record]) for record in records):
                raise _damaged()


@dataclass(frozen=True)
class _Answer:
    """What one search found, in one whole commit."""

    keys: list[plan.Key]
    total: int
    values: Mapping[str, Anything]


def _base(where: ElasticsearchSettings, store_id: str) -> str:
    return f"{where.name}-{store_id}"


def _behind(client: Elasticsearch, alias: str) -> list[str]:
    """The indices behind an alias, none when it is not there."""
    with _edge():
        try:
            return list(client.indices.get_alias(name=alias))
        except NotFoundError:
            return []


def _numbered(client: Elasticsearch, alias: str) -> dict[str, int]:
    """Every index that was made for the alias, in use or not, and its number."""
    with _edge():
        names = client.indices.get(index=f"{alias}-*", filter_path="*.aliases", expand_wildcards="all")
    numbers = {name: re.fullmatch(r"-(\d+)", name[len(alias) :]) for name in names}
    return {name: int(number[1]) for name, number in numbers.items() if number}


def _last(numbered: Mapping[str, int]) -> int:
    return max(numbered.values(), default=0)


def _remove(client: Elasticsearch, index: str) -> None:
    with _edge():
        client.indices.delete(index=index, ignore_unavailable=True)


def _make(client: Elasticsearch, where: ElasticsearchSettings, index: str, alias: str | None) -> None:
    """Make the index, behind `alias` from its first moment; another process may be doing the same."""
    with _edge():
        try:
            made = client.indices.create(
                index=index,
                mappings=_mapping(),
                settings={
                    "number_of_shards": where.shards,
                    "number_of_replicas": where.replicas,
                    "refresh_interval": -1,
                    "translog.durability": "request",
                    # How long the version of what was deleted is remembered, against writes that arrive late.
                    "gc_deletes": "10m",
                },
                aliases={name: {} for name in (_own_alias(index), alias) if name},
                timeout=f"{where.timeout}s",
            )
        except BadRequestError as error:
            if alias is None or _cause(error)[1] != "resource_already_exists_exception":
                raise
            return
    if not made["shards_acknowledged"]:
        raise _unreachable("shards_acknowledged")


def _mark_up(client: Elasticsearch, index: str) -> None:
    """Give every shard of a new index its mark. Whoever did half of it, the rest is done here."""
    target = _own_alias(index)
    with _edge():
        if client.exists(index=target, id=_mark_id(_CLAIM), routing=_CLAIM):
            return
        settings = client.indices.get_settings(index=target, name="index.number_of_shards")
        shards = int(settings[index]["settings"]["index"]["number_of_shards"])
        routings: dict[int, str] = {}
        for number in range(1000 * shards):
            shard = client.search_shards(index=target, routing=str(number))["shards"][0][0]["shard"]
            routings.setdefault(shard, str(number))
            if len(routings) == shards:
                break
        claim = _Claim(
            index=index,
            routings=tuple(routings.values()),
            place=(0, 0),
            fence=0,
            commit=0,
            writer="",
            upto=0,
            open=False,
            done=True,
        )
        for routing in reversed(claim.routings):
            body = claim.body() if routing == _CLAIM else {"sort": -1, "mark": claim.mark()}
            with suppress(ConflictError):
                client.create(index=target, id=_mark_id(routing), routing=routing, document=body, require_alias=True)
        client.indices.refresh(index=target)


def _whole(buckets: Sequence[Mapping[str, Anything]]) -> int:
    """The number of shards if their marks are all of one commit, else 0; `IndexOutdated` for another version's marks."""
    for bucket in buckets:
        if not str(bucket["key"]).startswith(f"{LAYOUT} {FINGERPRINT} "):
            raise _outdated()
    if len(buckets) != 1:
        return 0
    _, _, shards, state = str(buckets[0]["key"]).split(" ")
    return int(shards) if state != "open" and buckets[0]["doc_count"] == int(shards) else 0


def _check(document: Document) -> None:
    """`BadInput` (`index.document`) for what the engine cannot keep: longer terms than it bears."""
    facets = (_facet(name, value) for name, values in document.facets.items() for value in values)
    if not all(_keepable(term) for term in (document.record, document.partition, *facets)):
        raise _bad_document()


def _body(document: Document) -> dict[str, Anything]:
    everything: list[str] = []
    headed: list[str] = []
    whole: list[str] = []
    for item, texts in document.items.items():
        head = _short(item)
        for text in texts:
            folded = normalise(text)
            if folded:
                words = [_word(pair) for pair in pairs(folded)]
                everything.append(" ".join(words))
                headed.append(head + f" {head}".join(words))
                whole.append(exact(item, folded))
    return {
        "any": everything,
        "items": headed,
        "exact": whole,
        "record": document.record,
        "partition": document.partition,
        "generation": document.generation,
        "sort": document.sort,
        "latest": document.latest,
        "facets": [_facet(name, value) for name, values in document.facets.items() for value in values],
    }


def _bytes(value: Mapping[str, Anything]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _action(kind: str, name: str, routing: str, fence: int) -> bytes:
    return _bytes({kind: {"_id": name, "routing": routing, "version": fence, "version_type": "external_gte"}})


def _some_of(records: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(records), _TERMS):
        yield records[start : start + _TERMS]


def _inside(query: Query, groups: Sequence[tuple[plan.Items, tuple[str, ...]]], past: bool) -> Mapping[str, Anything]:
    """The query, asked in each group of partitions in terms of the items permitted there, and nowhere else."""
    parts = []
    for items, partitions in groups:
        known = [partition for partition in partitions if _keepable(partition)]
        filters = [_translated(query, items), _any_of([{"terms": {"partition": some}} for some in _some_of(known)])]
        if not past:
            filters.append({"term": {"latest": True}})
        parts.append({"bool": {"filter": filters}})
    return _any_of(parts)


def _translated(query: Query, items: plan.Items, depth: int = 0) -> Mapping[str, Anything]:
    if depth == _DEPTH:
        return {"wrapper": {"query": base64.b64encode(_bytes(_translated(query, items))).decode()}}
    match query:
        case Contains(text, None):
            if items is None:
                return _contains("any", "", text)
            return _any_of([_contains("items", _short(item), text) for item in sorted(items)])
        case Contains(text, str(item)):
            return _contains("items", _short(item), text) if plan.permitted(item, items) else _NOTHING
        case Equals(text, item):
            return {"term": {"exact": exact(item, text)}} if plan.permitted(item, items) else _NOTHING
        case Has(facet, value):
            term = _facet(facet, value)
            return {"term": {"facets": term}} if plan.facet_permitted(facet, items) and _keepable(term) else _NOTHING
        case All(parts):
            if not parts:
                return {"match_all": {}}
            return {"bool": {"filter": [_translated(part, items, depth + 1) for part in parts]}}
        case Any(parts):
            return _any_of([_translated(part, items, depth + 1) for part in parts])
        case Not(part):
            return {"bool": {"must_not": [_translated(part, items, depth + 1)]}}
    raise AssertionError(query)


def _contains(field: str, head: str, text: str) -> Mapping[str, Anything]:
    if len(text) == 1:
        return {"prefix": {field: {"value": head + _word(text) + "u"}}}
    words = [head + _word(pair) for pair in pairs(text)[:-1]]
    if len(words) == 1:
        return {"term": {field: words[0]}}
    return {"match_phrase": {field: {"query": " ".join(words), "analyzer": "standard"}}}


def _any_of(parts: Sequence[Mapping[str, Anything]]) -> Mapping[str, Anything]:
    if not parts:
        return _NOTHING
    if len(parts) == 1:
        return parts[0]
    return {"bool": {"should": parts}}
