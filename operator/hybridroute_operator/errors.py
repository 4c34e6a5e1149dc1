"""What can go wrong between the operator and the API server. The class says whether and when to try again."""

from typing import ClassVar

__all__ = [
    "ApiConflictError",
    "ApiForbiddenError",
    "ApiRejectedError",
    "ApiUnavailableError",
    "OperatorError",
]


class OperatorError(Exception):
    """A reconcile could not be finished. The message says what was asked and what the API server said."""

    reason: ClassVar[str] = "OperatorError"
    """One word for metrics and events."""
    retry_seconds: ClassVar[float] = 30.0
    """When to try again, before back-off."""


class ApiUnavailableError(OperatorError):
    """No answer, 429 or 5xx: it may pass by itself."""

    reason = "ApiUnavailable"
    retry_seconds = 2.0


class ApiConflictError(OperatorError):
    """Somebody else wrote meanwhile: observe again."""

    reason = "ApiConflict"
    retry_seconds = 0.5


class ApiForbiddenError(OperatorError):
    """A right is missing. It passes only when somebody grants it."""

    reason = "Forbidden"
    retry_seconds = 60.0


class ApiRejectedError(OperatorError):
    """The API server refuses an object of ours, or an admission webhook does. Trying at once would not help."""

    reason = "Rejected"
    retry_seconds = 60.0
