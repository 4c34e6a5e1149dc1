"""The objects of a route: golden pairs, and what holds of any of them."""

import copy
from typing import Any

import pytest
import yaml

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_render.kubernetes.names import Part, RouteNames
from hybridroute_render.kubernetes.objects import render_internal_secret, render_objects, route_url
from hybridroute_render.kubernetes.settings import ClusterSettings
from support.golden import CLUSTER, golden_names, read_golden, read_golden_route, render_golden
from support.routes import route_of

Manifest = dict[str, Any]


def by_kind(route: HybridRoute, kind: str, settings: ClusterSettings = CLUSTER) -> dict[str, Manifest]:
    objects = render_objects(route, settings)
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def templates(route: HybridRoute, part: Part) -> list[Manifest]:
    spec = by_kind(route, "RayService")[f"{route.metadata.name}-{part}"]["spec"]["rayClusterConfig"]
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def groups(route: HybridRoute, part: Part) -> dict[str, tuple[int, int]]:
    spec = by_kind(route, "RayService")[f"{route.metadata.name}-{part}"]["spec"]["rayClusterConfig"]
    return {
        group["groupName"]: (group["minReplicas"], group["maxReplicas"]) for group in spec["workerGroupSpecs"]
    }


@pytest.mark.parametrize("name", golden_names())
def test_golden_pair(name: str) -> None:
    assert render_golden(name) == read_golden(name)


@pytest.mark.parametrize("name", golden_names())
def test_twice_the_same_bytes_and_no_shared_parts(name: str) -> None:
    route = read_golden_route(name)
    first = render_objects(route, CLUSTER)
    kept = copy.deepcopy(first)
    for manifest in first:
        spoil(manifest)
    assert render_objects(route, CLUSTER) == kept
    assert route == read_golden_route(name)


def spoil(value: Any) -> None:
    """Empty every container, children first: whatever is shared with the next rendering shows."""
    for child in list(value.values() if isinstance(value, dict) else value):
        if isinstance(child, dict | list):
            spoil(child)
    value.clear()


@pytest.mark.parametrize("name", golden_names())
def test_each_object_is_owned_named_and_labelled(name: str) -> None:
    route = read_golden_route(name)
    secret = render_internal_secret(route, token="a", metrics_token="b")
    for manifest in (*render_objects(route, CLUSTER), secret):
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "shop"
        assert metadata["name"].startswith("support-")
        assert metadata["labels"]["hybridroute.dev/route"] == "support"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "hybridroute-operator"
        [owner] = metadata["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("HybridRoute", route.metadata.uid, True)


def test_objects_have_unlike_names_within_their_kind() -> None:
    objects = render_objects(read_golden_route("ha_gpu"), CLUSTER)
    keys = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(set(keys)) == len(keys)


def test_longest_name_stays_within_what_kubernetes_and_kuberay_accept() -> None:
    names = RouteNames("r" * 39, "shop")
    for part in Part:
        assert len(names.part(part)) <= 47  # KubeRay's limit for a RayService
        assert len(names.serve_host(part, "cluster.local").split(".")[0]) <= 63
        assert len(names.head_host(part, "cluster.local").split(".")[0]) <= 63


@pytest.mark.parametrize("name", golden_names())
def test_keys_of_providers_are_mounted_in_the_gateway_alone(name: str) -> None:
    route = read_golden_route(name)
    for part, wanted in ((Part.GATEWAY, True), (Part.SLM, False)):
        for template in templates(route, part):
            secrets = {v["secret"]["secretName"] for v in template["spec"]["volumes"] if "secret" in v}
            assert "support-internal" in secrets
            assert ("provider" in secrets) is wanted


@pytest.mark.parametrize("name", golden_names())
def test_kuberay_names_the_application_of_ray_pods(name: str) -> None:
    # The Service of a RayService's head selects `app.kubernetes.io/name: kuberay`.
    for part in Part:
        for template in templates(read_golden_route(name), part):
            assert "app.kubernetes.io/name" not in template["metadata"]["labels"]


def test_small_has_two_pods_and_heads_that_serve() -> None:
    route = read_golden_route("small")
    assert groups(route, Part.GATEWAY) == {"gateway": (0, 0)}
    assert groups(route, Part.SLM) == {"slm": (0, 0)}
    for service in by_kind(route, "RayService").values():
        assert "excludeHeadPodFromServeSvc" not in service["spec"]
        assert service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] != "0"


def test_ha_keeps_heads_empty() -> None:
    route = read_golden_route("ha_gpu")
    assert groups(route, Part.GATEWAY) == {"gateway": (2, 4), "keeper": (1, 1)}
    assert groups(route, Part.SLM) == {"slm": (2, 4)}
    for service in by_kind(route, "RayService").values():
        assert service["spec"]["excludeHeadPodFromServeSvc"] is True
        assert service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_a_head_never_holds_a_gpu() -> None:
    route = route_of({"spec": {"slm": {"resources": {"gpus": 1}, "pricing": {"gpuHourUSD": "0.8"}}}})
    head, worker = templates(route, Part.SLM)
    assert "nvidia.com/gpu" not in head["spec"]["containers"][0]["resources"]["limits"]
    assert worker["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert groups(route, Part.SLM) == {"slm": (1, 1)}


def test_a_replica_asks_ray_for_what_its_pod_has() -> None:
    route = read_golden_route("ha_gpu")
    service = by_kind(route, "RayService")["support-slm"]
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["deployments"][0]["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 1}
    [group] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert {"num-cpus": "1", "num-gpus": "1"}.items() <= group["rayStartParams"].items()


def test_the_keeper_runs_where_its_store_is() -> None:
    for name in golden_names():
        service = by_kind(read_golden_route(name), "RayService")["support-gateway"]["spec"]
        applications = {app["name"]: app for app in yaml.safe_load(service["serveConfigV2"])["applications"]}
        options = applications["keeper"]["deployments"][0]["ray_actor_options"]
        assert options["resources"] == {"hybridroute_keeper": 1}
        cluster = service["rayClusterConfig"]
        found = [
            group
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
            if "hybridroute_keeper" in group["rayStartParams"].get("resources", "")
        ]
        assert len(found) == 1
        mounts = found[0]["template"]["spec"]["containers"][0]["volumeMounts"]
        assert applications["keeper"]["args"]["state_dir"] in {mount["mountPath"] for mount in mounts}


def test_a_live_change_touches_config_maps_alone() -> None:
    before = render_objects(route_of(), CLUSTER)
    change = {"spec": {"mode": "LLMOnly", "slm": {"pricing": {"machineHourUSD": "0.2"}}}}
    after = render_objects(route_of(change), CLUSTER)
    changed = [new["metadata"]["name"] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["support-accepted", "support-live"]


def test_gpus_are_priced_in_the_live_policy() -> None:
    live = by_kind(read_golden_route("ha_gpu"), "ConfigMap")["support-live"]["data"]["live.json"]
    assert '"machine_hour_nano_usd": 1000000000' in live


def test_a_pod_monitor_only_where_it_is_wanted() -> None:
    without = ClusterSettings(serve_image="x", pod_monitors=False)
    assert by_kind(route_of(), "PodMonitor", without) == {}
    assert list(by_kind(route_of(), "PodMonitor")) == ["support-gateway"]


def test_an_installation_says_what_cpu_gateways_and_empty_heads_ask_for() -> None:
    settings = ClusterSettings(serve_image="x", gateway_cpu="200m", head_cpu="100m")
    services = by_kind(read_golden_route("ha_gpu"), "RayService", settings)
    gateway, slm = (services[f"support-{part}"]["spec"]["rayClusterConfig"] for part in ("gateway", "slm"))

    def asked(group: dict[str, Any]) -> str:
        return str(group["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])

    assert [asked(group) for group in gateway["workerGroupSpecs"]] == ["200m", "200m"]
    assert (asked(gateway["headGroupSpec"]), asked(slm["headGroupSpec"])) == ("100m", "100m")


def test_url_is_the_gateways_service() -> None:
    assert route_url(read_golden_route("small")) == "http://support-gateway-serve-svc.shop.svc:8000/v1"


@pytest.mark.parametrize("name", golden_names())
def test_a_heads_autoscaler_ends_with_its_pod(name: str) -> None:
    route = read_golden_route(name)
    for part in Part:
        head, *workers = templates(route, part)
        assert head["spec"]["shareProcessNamespace"] is True
        assert all("shareProcessNamespace" not in worker["spec"] for worker in workers)
