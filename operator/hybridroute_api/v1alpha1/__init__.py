"""HybridRoute, version v1alpha1."""

from hybridroute_api.v1alpha1.resource import API_VERSION, KIND, HybridRoute
from hybridroute_api.v1alpha1.spec import HybridRouteSpec
from hybridroute_api.v1alpha1.status import HybridRouteStatus

__all__ = ["API_VERSION", "KIND", "HybridRoute", "HybridRouteSpec", "HybridRouteStatus"]
