"""What tests do to a bucket past the store: as an administrator who may go round GOVERNANCE."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from core.settings import S3Settings
from storage.bucket import Bucket
from storage.inventory import NAME, SIDECAR
from storage.places import object_place
from storage.port import Pin
from tests.contracts.storage_contracts import Damage
from tests.servers.proxy import HttpFront, Proxy
from tests.servers.running import HOST


def through(front: HttpFront | Proxy, where: S3Settings) -> S3Settings:
    """The same bucket, asked for at the front."""
    return replace(where, endpoint=f"http://{HOST}:{front.port}")


def opened(where: S3Settings) -> Bucket:
    return Bucket(where, where.bucket)


def sealed(bucket: Bucket, object_id: str) -> list[str]:
    """Places of all files of an object but the copies at its root."""
    home = object_place(object_id)
    places = dict.fromkeys(kept.key for kept in bucket.versions(f"{home}/"))
    return [place for place in places if place not in (f"{home}/{NAME}", f"{home}/{SIDECAR}")]


def remove(bucket: Bucket, place: str) -> None:
    """Remove all that lies under a name."""
    for kept in list(bucket.versions(place)):
        if kept.key == place:
            assert bucket.lets_delete(place, kept.version, bypass=True)
    assert bucket.get(place) is None


def damaging(bucket: Bucket) -> Damage:
    """For the contract: no version of the file has the sealed digest any more."""

    def change(pin: Pin, path: str) -> None:
        place = f"{object_place(pin.object_id)}/v{pin.number}/content/{path}"
        there = bucket.get(place)
        assert there is not None
        remove(bucket, place)
        bucket.put(place, b"\x00" + there.data[1:])

    return change


def lock_ends(bucket: Bucket, object_id: str) -> list[datetime]:
    """When the lock of each version of each sealed file ends."""
    ends = []
    for place in sealed(bucket, object_id):
        for kept in bucket.of_key(place):
            lock = bucket.lock_of(place, kept.version)
            assert lock is not None
            ends.append(lock.until)
    return ends


def removed(bucket: Bucket, object_id: str) -> bool:
    """Whether a sealed file of the object could be removed just now."""
    place = f"{object_place(object_id)}/v1/content/a"
    return all(bucket.lets_delete(place, kept.version, bypass=True) for kept in bucket.of_key(place))
