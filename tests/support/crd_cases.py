"""All objects that a real API server is asked about, and the file with what it says.

`python tests/support/crd_cases.py` (with `PYTHONPATH=tests`) writes that file anew; read the difference before
committing it.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hybridroute_api.crd import CRD_NAME, render_crd
from hybridroute_api.v1alpha1.rules import RULES
from support.api_server import ApiServer, run_api_server
from support.object_cases import ADMITTED, REFUSED
from support.routes import route_document
from support.rule_cases import RULE_CASES

__all__ = ["ADMITTED_ALL", "MESSAGES", "REFUSED_ALL", "create", "serve_definition"]

MESSAGES = Path(__file__).parents[1] / "data" / "crd" / "messages.txt"
_COLLECTION = "/apis/hybridroute.dev/v1alpha1/namespaces/default/hybridroutes"
_DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"

Case = tuple[str, dict[str, Any]]


def _rule_cases(part: int) -> list[Case]:
    """Return the first or the second object of each rule that the API server knows, numbered within the rule."""
    known = {rule.id for rule in RULES if rule.cel}
    seen: Counter[str] = Counter()
    cases = []
    for case in RULE_CASES:
        seen[case[0]] += 1
        if case[0] in known:
            cases.append((f"{case[0]} {seen[case[0]]}", case[part]))
    return cases


REFUSED_ALL = [*REFUSED, *_rule_cases(1)]
ADMITTED_ALL = [*ADMITTED, *_rule_cases(2)]


def create(cluster: ApiServer, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Ask for the object as `kubectl apply` does, and keep nothing."""
    status, answer = cluster.request("POST", f"{_COLLECTION}?dryRun=All&fieldValidation=Strict", document)
    return status, answer


def serve_definition(server: ApiServer) -> ApiServer:
    """Return the server once it serves HybridRoutes. Raises AssertionError when it refuses the definition."""
    status, answer = server.apply(render_crd(), _DEFINITION)
    assert status in (200, 201), answer["message"]
    server.wait_for(_COLLECTION, lambda status, _: status == 200)
    # What `kubectl explain` reads is published a little later.
    server.wait_for("/openapi/v3/apis/hybridroute.dev/v1alpha1", lambda status, _: status == 200)
    return server


def main() -> None:
    """Write what the API server says about each refused object."""
    with tempfile.TemporaryDirectory() as directory, run_api_server(Path(directory)) as server:
        serve_definition(server)
        lines = [
            f"{name} => {create(server, route_document(changes))[1]['message']}"
            for name, changes in REFUSED_ALL
        ]
    MESSAGES.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
