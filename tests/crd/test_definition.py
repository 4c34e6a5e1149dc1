"""The definition as the API server sees it: accepted whole, structural, and readable in `kubectl explain`."""

from support.api_server import ApiServer
from support.routes import route_document


def test_is_accepted_whole(cluster: ApiServer) -> None:
    _, definition = cluster.request(
        "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hybridroutes.hybridroute.dev"
    )
    conditions = {item["type"]: item["status"] for item in definition["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_explains_a_part_with_units_ranges_and_reasons(cluster: ApiServer) -> None:
    text = cluster.kubectl("explain", "hybridroute.spec.llm")
    words = " ".join(text.split())
    assert "KIND: HybridRoute" in words
    assert (
        "The path to remote LLMs. Required, because it serves whatever the SLM is not trusted with." in words
    )
    assert "upstreams <[]Object> -required- Providers in order of preference, 1 to 8;" in words


def test_explains_the_retry_budget_like_documentation(cluster: ApiServer) -> None:
    words = " ".join(cluster.kubectl("explain", "hybridroute.spec.llm.retryBudget").split())
    assert "FIELD: retryBudget <Object>" in words
    for field in ("ratio", "minPerSecond", "burst", "maxAttempts"):
        described = words.split(f" {field} <", 1)[1].split("> ", 1)[1]
        assert len(described.split(".")[0].split()) > 4, field
        assert "Range" in described
        assert "default" in described


def test_explains_a_bound_field(cluster: ApiServer) -> None:
    words = " ".join(cluster.kubectl("explain", "hybridroute.spec.slm.scaling.maxReplicas").split())
    assert "FIELD: maxReplicas <integer>" in words
    assert "Range 1 to 1000, at least `minReplicas`; default 1" in words


def test_columns_and_short_name_read_well(cluster: ApiServer) -> None:
    path = "/apis/hybridroute.dev/v1alpha1/namespaces/default/hybridroutes/shown"
    status = {
        "url": "http://shown-router.default.svc:8000/v1",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Serving",
                "lastTransitionTime": "2026-11-24T00:00:00Z",
            }
        ],
        "slmPercent": 83,
        "spentUSD": "1.25",
        "budget": {"limitUSD": "50", "spentUSD": "1.25", "reservedUSD": "0.5"},
        "cost": {"totalUSD": "9.75", "savedUSD": "-0.10"},
    }
    document = route_document({"metadata": {"name": "shown"}})
    assert cluster.apply(document, path)[0] == 201
    written = document | {"status": status}
    assert cluster.apply(written, path + "/status")[0] == 200
    header, row = cluster.kubectl("get", "hr").splitlines()
    assert header.split() == ["NAME", "READY", "URL", "SLM", "%", "SPENT", "LIMIT", "SAVED", "AGE"]
    assert row.split()[:7] == [
        "shown",
        "True",
        "http://shown-router.default.svc:8000/v1",
        "83",
        "1.25",
        "50",
        "-0.10",
    ]
    assert cluster.kubectl("get", "hybridroute", "-o", "name").strip() == "hybridroute.hybridroute.dev/shown"


def test_status_is_a_subresource(cluster: ApiServer) -> None:
    path = "/apis/hybridroute.dev/v1alpha1/namespaces/default/hybridroutes/apart"
    document = route_document({"metadata": {"name": "apart"}}) | {"status": {"url": "http://elsewhere/v1"}}
    status, created = cluster.apply(document, path)
    assert status == 201
    assert "status" not in created
