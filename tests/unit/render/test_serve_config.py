"""HybridRoute → Ray Serve config: every field that shapes a deployment bites, and the bytes are stable."""

import json

import pytest

from hybridroute_api.serving import LONGEST_REQUEST_SECONDS, KeeperArgs, LlmProxyArgs, RouterArgs, SlmArgs
from hybridroute_render.placement import Placement, ServePorts
from hybridroute_render.serve_config import (
    render_gateway_applications,
    render_slm_application,
    render_stand_in_application,
)
from hybridroute_render.serve_environment import render_serve_environment
from support.routes import route_of

PLACEMENT = Placement(
    gateway_url="http://127.0.0.1:8000",
    slm_ingress_url="http://slm:8000",
    gateway_haproxy_metrics_url="http://127.0.0.1:9101/metrics",
    slm_haproxy_metrics_url="http://slm:9101/metrics",
    token_file="/s/token",
    metrics_token_file="/s/metrics",
    state_dir="/state",
    journal_dir="/journal",
    live_file="/live.json",
)


def applications(changes=None):
    route = route_of(changes)
    rendered = [*render_gateway_applications(route, PLACEMENT), render_slm_application(route, PLACEMENT)]
    return {application["name"]: application for application in rendered}


def test_each_application_has_its_own_prefix_builder_and_valid_arguments():
    apps = applications()

    assert {name: (app["route_prefix"], app["import_path"]) for name, app in apps.items()} == {
        "router": ("/", "hybridroute_serve.apps.router:build"),
        "llm-proxy": ("/llm", "hybridroute_serve.apps.llm_proxy:build"),
        "keeper": ("/keeper", "hybridroute_serve.apps.keeper:build"),
        "slm": ("/slm", "hybridroute_serve.apps.slm:build"),
    }
    router = RouterArgs.model_validate(apps["router"]["args"])
    assert (router.slm_url, router.llm_url) == ("http://slm:8000/slm", "http://127.0.0.1:8000/llm")
    assert (router.slm_backend, router.llm_backend) == ("http-slm", "http-llm-proxy")
    assert router.router_backend == "http-router"
    assert LlmProxyArgs.model_validate(apps["llm-proxy"]["args"]).keeper_url == "http://127.0.0.1:8000/keeper"
    assert KeeperArgs.model_validate(apps["keeper"]["args"]).live_file == "/live.json"
    assert SlmArgs.model_validate(apps["slm"]["args"]).model_uri == "bundled:smollm2-135m"


def test_the_same_object_gives_the_same_bytes():
    assert json.dumps(applications(), sort_keys=True) == json.dumps(applications(), sort_keys=True)


@pytest.mark.parametrize(("path", "app"), [("slm", "slm"), ("llm", "llm-proxy"), ("routing", "router")])
@pytest.mark.parametrize(
    ("field", "value", "key", "rendered"),
    [
        ("minReplicas", 2, "min_replicas", 2),
        ("maxReplicas", 7, "max_replicas", 7),
        ("targetOngoingRequests", 33, "target_ongoing_requests", 33),
        ("upscaleDelay", "7s", "upscale_delay_s", 7.0),
        ("downscaleDelay", "2m", "downscale_delay_s", 120.0),
    ],
)
def test_scaling_becomes_serves_autoscaling(  # noqa: PLR0917 - one parameter a column of the table
    path, app, field, value, key, rendered
):
    scaling = {"maxReplicas": 4, field: value}
    (deployment,) = applications({"spec": {path: {"scaling": scaling}}})[app]["deployments"]

    assert deployment["autoscaling_config"][key] == rendered


def test_serve_admits_far_more_than_the_target_or_autoscaling_is_blind():
    for app in ("router", "llm-proxy", "slm"):
        (deployment,) = applications()[app]["deployments"]
        target = deployment["autoscaling_config"]["target_ongoing_requests"]
        assert deployment["max_ongoing_requests"] >= 10 * target


def test_only_cpu_applications_surge_and_the_keeper_is_alone():
    apps = applications()

    assert apps["router"]["deployments"][0]["max_surge_percent"] == 100
    assert "max_surge_percent" not in apps["slm"]["deployments"][0]
    assert apps["keeper"]["deployments"][0]["num_replicas"] == 1


@pytest.mark.parametrize(
    ("field", "value", "argument", "rendered"),
    [
        ("contextTokens", 1024, "context_tokens", 1024),
        ("parallelSequences", 2, "parallel_sequences", 2),
        ("timeouts", {"firstByte": "3s"}, "first_byte_seconds", 3.0),
        ("timeouts", {"total": "90s"}, "total_seconds", 90.0),
        ("model", {"uri": "/models/a.gguf"}, "model_uri", "/models/a.gguf"),
        ("model", {"uri": "/models/a.gguf"}, "model_name", "a"),
        ("scaling", {"targetOngoingRequests": 3}, "max_ongoing_requests", 30),
    ],
)
def test_slm_fields_reach_the_engine(field, value, argument, rendered):
    assert applications({"spec": {"slm": {field: value}}})["slm"]["args"][argument] == rendered


def test_no_stream_outlives_what_haproxy_and_replicas_are_given():
    environment = render_serve_environment(ServePorts(), cores=2)

    assert environment["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == str(LONGEST_REQUEST_SECONDS)
    for application in applications().values():
        assert application["deployments"][0]["graceful_shutdown_timeout_s"] >= LONGEST_REQUEST_SECONDS


def test_ports_reach_serve():
    environment = render_serve_environment(
        ServePorts(http=1, haproxy_metrics=2, haproxy_stats=3, fallback_proxy=4), cores=16
    )

    assert environment["RAY_SERVE_HAPROXY_METRICS_PORT"] == "2"
    assert environment["RAY_SERVE_HAPROXY_STATS_PORT"] == "3"
    assert environment["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] == "4"
    assert environment["RAY_SERVE_HAPROXY_NBTHREAD"] == "4"


def test_the_stand_in_is_paced():
    assert render_stand_in_application(tokens_per_second=50.0)["args"] == {"tokens_per_second": 50.0}
