"""What all models of the object share: how they are read, and the forms of names in them.

The docstring under each field is its description: in `kubectl explain`, in the reference and in error hints.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, Strict, StrictBool
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

__all__ = [
    "CLUSTER_ONLY",
    "CPU_PATTERN",
    "FORMS",
    "MEMORY_PATTERN",
    "ApiModel",
    "Count",
    "DnsName",
    "EnvName",
    "Flag",
    "ImageName",
    "LabelValue",
    "ObjectName",
    "SecretKey",
    "SpecModel",
    "Text",
]

CLUSTER_ONLY: Final[JsonDict] = {"x-hybridroute-cluster-only": True}
"""Marks, as `json_schema_extra`, a field that means nothing on one machine: `up` lists it, `--strict` refuses
it.
"""

_DNS_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
CPU_PATTERN: Final = r"^([1-9][0-9]{0,2}(\.[0-9]{1,3})?|0\.[0-9]{1,3}|[1-9][0-9]{0,5}m)$"
MEMORY_PATTERN: Final = r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$"
_OBJECT_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_KEY_PATTERN: Final = r"^[-._a-zA-Z0-9]+$"
_IMAGE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$"
_ENV_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"

FORMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        _DNS_PATTERN: "lower-case letters, digits and '-', starting with a letter, not ending with '-'",
        CPU_PATTERN: 'CPU cores in quotes, for example "2", "0.5" or "500m"',
        MEMORY_PATTERN: "memory as a whole number with the unit Mi, Gi or Ti, for example 24Gi",
        _OBJECT_PATTERN: "a Kubernetes name: lower-case letters, digits, '-' and '.', no mark at the ends",
        _KEY_PATTERN: "an entry's name: letters, digits, '-', '_' and '.'",
        _IMAGE_PATTERN: "an image's name with tag or digest, for example registry/name:1.0",
        _ENV_PATTERN: "a variable's name, not its value: letters, digits and '_', without a leading digit",
    }
)
"""What each pattern in the models asks for, in words that complete "must be …"."""

Count = Annotated[int, Strict()]
"""A whole number; text that looks like one is refused."""
Flag = StrictBool
"""`true` or `false`."""
Text = Annotated[str, Field(min_length=1)]
DnsName = Annotated[str, Field(pattern=_DNS_PATTERN, min_length=1, max_length=39)]
"""A DNS-1035 label of at most 39 characters, which leaves room for what is appended to it."""
ObjectName = Annotated[str, Field(pattern=_OBJECT_PATTERN, min_length=1, max_length=253)]
"""Name of a Kubernetes object that somebody else makes."""
SecretKey = Annotated[str, Field(pattern=_KEY_PATTERN, min_length=1, max_length=253)]
ImageName = Annotated[str, Field(pattern=_IMAGE_PATTERN, min_length=1, max_length=512)]
LabelValue = Annotated[str, Field(max_length=63)]
"""What a Kubernetes label may hold."""
EnvName = Annotated[str, Field(pattern=_ENV_PATTERN, min_length=1, max_length=128)]


class ApiModel(BaseModel):
    """Base of all parts of the object: immutable, camelCase outside, described by docstrings."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, use_attribute_docstrings=True)


class SpecModel(ApiModel):
    """Base of what a person writes: an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid")
