"""`spec.auth`: who may ask."""

from pydantic import Field

from hybridroute_api.v1alpha1.model import SpecModel, Text

__all__ = ["Auth"]


class Auth(SpecModel):
    """Clients with API keys; without this part everybody may ask."""

    api_keys_file: Text = Field(max_length=1024)
    """YAML file, absolute or relative to the route's file, 1 to 1024 characters, with the clients, their keys, limits
    and budgets. Required. It is read again when it changes, so keys rotate without a restart.
    """
