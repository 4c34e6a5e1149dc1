"""KubeRay's kinds without KubeRay: its definitions in a bare API server, and the states that it would write."""

import os
from pathlib import Path
from typing import Any

import yaml

from support.api_server import ApiServer

__all__ = ["KUBERAY", "report_applications", "serve_kuberay"]

KUBERAY = Path(os.environ.get("KUBERAY_MANIFEST") or "/usr/local/share/kuberay/kuberay.yaml")


def serve_kuberay(server: ApiServer) -> None:
    """Install the definitions, and wait until they are served."""
    for document in yaml.load_all(KUBERAY.read_text(), yaml.CSafeLoader):
        if document and document["kind"] == "CustomResourceDefinition":
            where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{document['metadata']['name']}"
            status, answer = server.apply(document, where)
            assert status in (200, 201), answer["message"]
    server.wait_for("/apis/ray.io/v1/rayservices", lambda status, _: status == 200)


def report_applications(server: ApiServer, namespace: str, service: str, states: dict[str, str]) -> None:
    """Write what KubeRay says of a RayService's applications."""
    path = f"/apis/ray.io/v1/namespaces/{namespace}/rayservices/{service}/status"
    applications = {name: {"status": word} for name, word in states.items()}
    body: dict[str, Any] = {
        "status": {
            "activeServiceStatus": {"applicationStatuses": applications, "rayClusterName": f"{service}-abcde"}
        }
    }
    status, answer = server.request("PATCH", path, body, kind="application/merge-patch+json")
    assert status == 200, answer["message"]
