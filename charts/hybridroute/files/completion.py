"""`helm test`: asks every ready HybridRoute that the operator serves for a completion, through its router.

Runs in the operator's image, under its account, with the standard library alone.
"""

import json
import os
import ssl
import sys
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ROUTES = "apis/hybridroute.dev/v1alpha1"


def read_routes(namespace: str) -> list[dict]:
    """Return the routes of a namespace, or, without one, of all."""
    where = f"namespaces/{namespace}/hybridroutes" if namespace else "hybridroutes"
    request = urllib.request.Request(
        f"https://kubernetes.default.svc/{ROUTES}/{where}",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}"},
    )
    authorities = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=authorities, timeout=30) as answer:
        return json.load(answer)["items"]


def is_ready(route: dict) -> bool:
    """Return whether the route's status says Ready."""
    conditions = route.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def ask(url: str, key: str) -> str:
    """Return how the route answered a chat completion; raises for anything but an answer."""
    body = {"model": "hybridroute", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    request = urllib.request.Request(
        f"{url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key or 'unused'}"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        document, headers = json.load(answer), answer.headers
    usage = document["usage"]["completion_tokens"]
    return f"path {headers['x-hybridroute-path']}, gate {headers['x-hybridroute-gate']}, {usage} tokens"


def main() -> int:
    """Return 0 when there is a ready route and each of them answered."""
    namespaces = os.environ.get("NAMESPACES", "").split(",")
    routes = [route for namespace in namespaces for route in read_routes(namespace)]
    ready = [route for route in routes if is_ready(route)]
    if not ready:
        print(f"none of {len(routes)} HybridRoutes is ready; apply one and wait for its condition Ready")
        return 1
    failed = 0
    for route in ready:
        name = f"{route['metadata']['namespace']}/{route['metadata']['name']}"
        try:
            print(f"{name}: {ask(route['status']['url'], os.environ.get('API_KEY', ''))}")
        except (OSError, ValueError, KeyError) as error:
            print(f"{name}: no completion: {error}")
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
