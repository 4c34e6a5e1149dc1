"""Rules of the route as a whole: mode, scaling, budget and auth."""

from typing import Final

from hybridroute_api.v1alpha1.auth import Auth
from hybridroute_api.v1alpha1.rules.rule import Rule
from hybridroute_api.v1alpha1.scaling import Scaling
from hybridroute_api.v1alpha1.spec import HybridRouteSpec
from hybridroute_api.vocabulary import Mode
from hybridroute_api.windows import parse_window

__all__ = ["ROUTE_RULES"]

_SCALING_PATHS: Final = ("spec.slm.scaling", "spec.llm.scaling", "spec.routing.scaling")


def _scaling_bounds(scaling: Scaling) -> bool:
    return scaling.min_replicas <= scaling.max_replicas


def _known_window(window: str) -> bool:
    try:
        parse_window(window)
    except ValueError:
        return False
    return True


def _usable_keys_source(auth: Auth) -> bool:
    return auth.api_keys_file is not None or auth.api_keys_secret_name is not None


def _shadow_has_its_mode(spec: HybridRouteSpec) -> bool:
    return spec.shadow_serve is None or spec.mode is Mode.SHADOW


ROUTE_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "shadow-serve-unused",
        ("spec",),
        "is used by mode Shadow alone: set mode to Shadow, or leave it out",
        _shadow_has_its_mode,
        cel="!has(self.shadowServe) || self.mode == 'Shadow'",
        field="shadowServe",
    ),
    Rule(
        "scaling-bounds",
        _SCALING_PATHS,
        "is below minReplicas: raise maxReplicas (default 1) or lower minReplicas",
        _scaling_bounds,
        cel="self.minReplicas <= self.maxReplicas",
        field="maxReplicas",
    ),
    Rule(
        "budget-window",
        ("spec.budget.window",),
        "is no window: write a length such as 24h, 90m or 7d (rolling), or 1d@<time zone>, month or month@<time zone>"
        " (calendar)",
        _known_window,
        # The zone's name is left to the models: the API server knows no list of zones.
        cel="self.matches('^([1-9][0-9]{0,4}[mhd]|(1d|month)(@[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*)?)$')",
    ),
    Rule(
        "auth-source",
        ("spec.auth",),
        "needs apiKeysFile on one machine, apiKeysSecretName in a cluster: name one, or leave auth out",
        _usable_keys_source,
        cel="has(self.apiKeysFile) || has(self.apiKeysSecretName)",
    ),
)
