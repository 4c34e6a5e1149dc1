"""`spec.auth`: who may ask."""

from pydantic import Field

from hybridroute_api.v1alpha1.model import CLUSTER_ONLY, ObjectName, SecretKey, SpecModel, Text

__all__ = ["Auth"]


class Auth(SpecModel):
    """Clients with API keys; without this part everybody may ask. On one machine `apiKeysFile`, in a cluster
    `apiKeysSecretName`; an object for both has both.
    """

    api_keys_file: Text | None = Field(default=None, max_length=1024)
    """YAML file, absolute or relative to the route's file, 1 to 1024 characters, with the clients, their keys, limits
    and budgets, on one machine. It is read again when it changes, so keys rotate without a restart. Default none, which
    one machine refuses.
    """
    api_keys_secret_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """Secret in the route's namespace that holds the same YAML, in a cluster. A name of 1 to 253 characters; a change
    is in force within 120 s without a restart. Default none, which a cluster refuses.
    """
    api_keys_secret_key: SecretKey = Field(default="clients.yaml", json_schema_extra=CLUSTER_ONLY)
    """Which of the Secret's entries is the YAML, 1 to 253 characters. Default clients.yaml."""
