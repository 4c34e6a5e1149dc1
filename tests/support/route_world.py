"""Routes in namespaces of a real API server: applied, waited for, compared with what a fresh apply makes."""

import difflib
import itertools
import time
from collections.abc import Callable
from typing import Any

import yaml

from support.api_server import ApiServer
from support.children import Children, comparable, read_children
from support.routes import route_document

__all__ = ["RouteWorld"]

_GROUP = "/apis/hybridroute.dev/v1alpha1"
_NUMBERS = itertools.count()
_SECONDS = 180.0
"""How long something may take on a busy machine before it is said never to come."""


class RouteWorld:
    """One namespace with one route, `support`, and others made beside it for comparison."""

    def __init__(self, cluster: ApiServer, prefix: str) -> None:
        self._cluster = cluster
        self._prefix = prefix
        self.namespace = self._make_namespace()

    @property
    def path(self) -> str:
        """Where the API server keeps the route."""
        return self._path(self.namespace)

    def apply(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Put the object there whole, as a person's `kubectl replace` does, and again where the operator wrote its
        status between look and write; return status and answer.
        """
        while True:
            code, found = self._cluster.request("GET", self.path)
            if code == 404:
                return self._cluster.request("POST", self.path.rsplit("/", 1)[0] + _STRICT, document)
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            replaced = document | {"metadata": document["metadata"] | version}
            status, answer = self._cluster.request("PUT", self.path + _STRICT, replaced)
            if status != 409:
                return status, answer

    def wait_until_seen(self, generation: int) -> tuple[bool, str]:
        """Wait for the operator's verdict on a generation; return whether it is accepted, and the message."""
        route = self._cluster.wait_for(
            self.path, lambda code, item: code == 200 and _seen(item) >= generation, seconds=_SECONDS
        )
        [accepted] = [c for c in route["status"]["conditions"] if c["type"] == "Accepted"]
        return accepted["status"] == "True", accepted["message"]

    def has_seen(self, generation: int) -> bool:
        """Return whether the operator's verdict is about this generation or a later one."""
        status, route = self._cluster.request("GET", self.path)
        return status == 200 and _seen(route) >= generation

    def children(self) -> Children:
        """Return the route's objects as they compare."""
        return comparable(read_children(self._cluster, self.namespace), self.namespace)

    def fresh_children(self, spec: dict[str, Any]) -> Children:
        """Apply a route with this spec in a new namespace, and return what the operator made of it."""
        other = RouteWorld(self._cluster, self._prefix)
        status, answer = other.apply(route_document() | {"spec": spec})
        assert status == 201, answer["message"]
        other.wait_until_seen(1)
        made = other.children()
        assert self._cluster.request("DELETE", other.path)[0] == 200
        return made

    def wait_until_children_are(self, wanted: Children) -> None:
        """Wait until the route's objects are these and no others."""
        self.wait_until(lambda: self.children() == wanted, lambda: _difference(self.children(), wanted))

    def wait_until_owned_by(self, uid: str) -> None:
        """Wait until no object is of an earlier life of the route: the garbage collector takes its time."""

        def owners() -> set[str]:
            children = read_children(self._cluster, self.namespace).values()
            return {
                owner["uid"] for child in children for owner in child["metadata"].get("ownerReferences") or ()
            }

        self.wait_until(lambda: owners() == {uid}, lambda: f"owners are {owners()}, not {uid} alone")

    def wait_until(self, holds: Callable[[], bool], told: Callable[[], object]) -> None:
        """Wait until something holds, else fail with what is told."""
        deadline = time.monotonic() + _SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(told())
            time.sleep(0.1)

    def _make_namespace(self) -> str:
        name = f"{self._prefix}-{next(_NUMBERS)}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        status, answer = self._cluster.apply(body, f"/api/v1/namespaces/{name}")
        assert status == 201, answer["message"]
        return name

    def _path(self, namespace: str) -> str:
        return f"{_GROUP}/namespaces/{namespace}/hybridroutes/support"


_STRICT = "?fieldValidation=Strict"


def _seen(route: dict[str, Any]) -> int:
    return int((route.get("status") or {}).get("observedGeneration", -1))


def _difference(found: Children, wanted: Children) -> str:
    lines = [f"missing {key}" for key in sorted(wanted.keys() - found.keys())]
    lines += [f"left over {key}" for key in sorted(found.keys() - wanted.keys())]
    lines += [
        f"{key}: {field} differs:\n{_changed_lines(found[key].get(field), wanted[key].get(field))}"
        for key in sorted(found.keys() & wanted.keys())
        for field in sorted(found[key].keys() | wanted[key].keys())
        if found[key].get(field) != wanted[key].get(field)
    ]
    return "\n".join(lines)


def _changed_lines(found: object, wanted: object) -> str:
    """Return what is there (+) and what was wanted (-), line by line; documents within strings have lines too."""
    sides = [yaml.safe_dump(side, default_style="|").splitlines() for side in (wanted, found)]
    return "\n".join(difflib.unified_diff(*sides, "wanted", "found", n=2, lineterm=""))[:4000]
