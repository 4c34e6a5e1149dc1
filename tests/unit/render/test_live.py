"""The live policy: exact money, the same bytes for the same object, and nothing that is not resolved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.quantities import format_usd
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_render.live import STAND_IN_MODEL, ResolvedUpstream, render_live_policy
from support.routes import route_of

PRIMARY = ResolvedUpstream("primary", base_url="https://provider.example/v1")
NANO_USD = st.integers(0, 10**15)


def test_defaults_are_rendered_in_the_contract_s_units() -> None:
    policy = render_live_policy(route_of(), (PRIMARY,))
    assert policy.route == "support"
    assert policy.max_body_bytes == 16 * 1024 * 1024
    assert policy.records.max_age_seconds == 7 * 24 * 3600
    assert policy.records.max_bytes == 512 * 1024 * 1024
    assert policy.slm.machine_hour_nano_usd == 100_000_000
    assert policy.llm.primary.prices.input_nano_usd_per_million == 2_500_000_000
    assert policy.llm.primary.prices.cached_input_nano_usd_per_million is None
    assert policy.llm.primary.timeouts.connect_seconds == 2.0
    assert (policy.routing.threshold, policy.routing.scope_threshold) == (0.5, 0.3)


@given(machine=NANO_USD, gpu=NANO_USD, gpus=st.integers(0, 16))
def test_price_of_an_hour_is_exact(machine: int, gpu: int, gpus: int) -> None:
    pricing = {"machineHourUSD": format_usd(machine), "gpuHourUSD": format_usd(gpu)}
    slm = {"pricing": pricing, "resources": {"gpus": gpus}}
    policy = render_live_policy(route_of({"spec": {"slm": slm}}), (PRIMARY,))
    assert policy.slm.machine_hour_nano_usd == machine + gpus * gpu


@given(prompt=NANO_USD, completion=NANO_USD)
def test_list_prices_are_exact(prompt: int, completion: int) -> None:
    pricing = {
        "inputPerMillionTokensUSD": format_usd(prompt),
        "outputPerMillionTokensUSD": format_usd(completion),
    }
    route = route_of({"spec": {"llm": {"upstreams": [{"pricing": pricing}]}}})
    prices = render_live_policy(route, (PRIMARY,)).llm.primary.prices
    assert (prices.input_nano_usd_per_million, prices.output_nano_usd_per_million) == (prompt, completion)


def test_adapters_are_models_that_clients_may_name() -> None:
    slm = {"engine": "vllm", "model": {"uri": "models/x"}, "adapters": {"b": "x", "a": "y"}}
    assert render_live_policy(route_of({"spec": {"slm": slm}}), (PRIMARY,)).slm.adapters == ("a", "b")


def test_twice_rendered_is_the_same_bytes_and_leaves_the_object_alone() -> None:
    route = route_of({"spec": {"llm": {"upstreams": [{"headers": {"x-b": "1", "x-a": "2"}}]}}})
    before = route.model_dump_json(by_alias=True)
    first = render_live_policy(route, (PRIMARY,))
    assert render_live_policy(route, (PRIMARY,)).model_dump_json() == first.model_dump_json()
    assert route.model_dump_json(by_alias=True) == before


def test_order_of_headers_in_the_file_does_not_change_the_version() -> None:
    def version(headers: dict[str, str]) -> str:
        route = route_of({"spec": {"llm": {"upstreams": [{"headers": headers}]}}})
        return render_live_policy(route, (PRIMARY,)).version

    assert version({"x-b": "1", "x-a": "2"}) == version({"x-a": "2", "x-b": "1"})


def test_upstreams_keep_the_spec_s_order_of_preference() -> None:
    pricing = {"inputPerMillionTokensUSD": "1", "outputPerMillionTokensUSD": "1"}
    second = {"name": "second", "baseURL": "http://b/v1", "model": "m", "pricing": pricing}
    route = route_of({"spec": {"llm": {"upstreams": [{}, second]}}})
    resolved = (ResolvedUpstream("second", base_url="http://b/v1"), PRIMARY)
    assert [u.name for u in render_live_policy(route, resolved).llm.upstreams] == ["primary", "second"]


def test_resolved_places_are_what_is_rendered() -> None:
    resolved = ResolvedUpstream(
        "primary", base_url="http://localhost:1/v1/", credential_file="/run/key", ca_file="/run/ca.pem"
    )
    upstream = render_live_policy(route_of(), (resolved,)).llm.primary
    assert upstream.base_url == "http://localhost:1/v1"
    assert (upstream.credential_file, upstream.ca_file) == ("/run/key", "/run/ca.pem")
    assert (upstream.model, upstream.stand_in) == ("big", False)


def test_the_stand_in_is_labelled_and_keeps_the_spec_s_prices() -> None:
    resolved = ResolvedUpstream("primary", base_url="http://localhost:1/v1", stand_in=True)
    upstream = render_live_policy(route_of(), (resolved,)).llm.primary
    assert upstream.stand_in
    assert upstream.model == STAND_IN_MODEL
    assert upstream.prices.input_nano_usd_per_million == 2_500_000_000


@pytest.mark.parametrize(
    "resolved",
    [(), (ResolvedUpstream("other", base_url="http://a/v1"),), (PRIMARY, PRIMARY)],
    ids=["none", "another", "twice"],
)
def test_upstreams_that_do_not_match_the_spec_are_refused(resolved: tuple[ResolvedUpstream, ...]) -> None:
    with pytest.raises(ValueError, match="do not match"):
        render_live_policy(route_of(), resolved)


def test_route_is_the_only_input() -> None:
    assert render_live_policy(
        HybridRoute.model_validate(route_of().model_dump(by_alias=True)), (PRIMARY,)
    ) == (render_live_policy(route_of(), (PRIMARY,)))
