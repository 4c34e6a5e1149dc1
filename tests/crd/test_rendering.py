"""What a route becomes, as a real API server sees it: every object admitted, every pod within `restricted`.

KubeRay's definitions come from its manifest; without it the RayServices are not asked about.
"""

import pytest

from hybridroute_render.kubernetes.kinds import key_of, object_path
from hybridroute_render.kubernetes.objects import render_internal_secret, render_objects
from hybridroute_render.kubernetes.settings import ClusterSettings
from support.api_server import ApiServer
from support.golden import golden_names, read_golden_route
from support.kuberay import KUBERAY, serve_kuberay

SETTINGS = ClusterSettings(serve_image="hybridroute/serve:0.1.0", pod_monitors=False)


@pytest.fixture(scope="session")
def shop(cluster: ApiServer) -> ApiServer:
    """The API server with KubeRay's kinds and a namespace that enforces the `restricted` level."""
    if not KUBERAY.exists():
        pytest.skip(f"{KUBERAY} is missing: set KUBERAY_MANIFEST to KubeRay's manifest")
    serve_kuberay(cluster)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
    assert cluster.apply(namespace, "/api/v1/namespaces/shop")[0] in (200, 201)
    return cluster


@pytest.mark.parametrize("name", golden_names())
def test_every_object_is_admitted_and_no_field_is_unknown(shop: ApiServer, name: str) -> None:
    route = read_golden_route(name)
    secret = render_internal_secret(route, token="a", metrics_token="b")
    for manifest in (*render_objects(route, SETTINGS), secret):
        query = "?fieldManager=tests&force=true&dryRun=All&fieldValidation=Strict"
        status, answer = shop.request(
            "PATCH",
            object_path(key_of(manifest), "shop") + query,
            manifest,
            kind="application/apply-patch+yaml",
        )
        assert status in (200, 201), (manifest["kind"], answer["message"])


@pytest.mark.parametrize("name", golden_names())
def test_every_pod_passes_the_restricted_level(shop: ApiServer, name: str) -> None:
    for manifest in render_objects(read_golden_route(name), SETTINGS):
        if manifest["kind"] != "RayService":
            continue
        cluster_config = manifest["spec"]["rayClusterConfig"]
        for group in (cluster_config["headGroupSpec"], *cluster_config["workerGroupSpecs"]):
            # Classes of priority and runtime would have to exist; they are the person's.
            spec = {k: v for k, v in group["template"]["spec"].items() if not k.endswith("ClassName")}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asked"}, "spec": spec}
            status, answer = shop.request(
                "POST", "/api/v1/namespaces/shop/pods?dryRun=All&fieldValidation=Strict", pod
            )
            assert status == 201, answer["message"]


def test_the_level_is_really_enforced(shop: ApiServer) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asked"},
        "spec": {"containers": [{"name": "a", "image": "a"}]},
    }
    status, answer = shop.request("POST", "/api/v1/namespaces/shop/pods?dryRun=All", pod)
    assert status == 403
    assert 'violates PodSecurity "restricted:latest"' in answer["message"]
