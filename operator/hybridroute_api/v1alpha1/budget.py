"""`spec.budget`: what the LLM path may cost, and what happens when that is spent."""

from pydantic import Field

from hybridroute_api.quantities import NanoUsd
from hybridroute_api.v1alpha1.model import SpecModel, Text
from hybridroute_api.vocabulary import ExhaustedAction

__all__ = ["Budget"]


class Budget(SpecModel):
    """Dollars for the LLM path. They are reserved before a request is sent, so the limit is never exceeded."""

    limit_nano_usd: NanoUsd = Field(alias="limitUSD", ge=0, le=10**9 * 10**9)
    """Dollars per window. Range "0" to "1000000000"; required, because a budget is its limit. A change is in force
    within 10s.
    """
    window: Text = Field(default="24h", max_length=64)
    """What the limit is good for: `24h`, `90m` or `7d` (rolling), `1d@Europe/Berlin`, `month` or `month@zone`
    (calendar). Default 24h, which no day's boundary can double.
    """
    on_exhausted: ExhaustedAction = ExhaustedAction.DEGRADE
    """What happens to a request that the SLM is fit for: Degrade (the SLM answers and says so) or Reject (429).
    Default Degrade, which fails no request.
    """
    on_exhausted_out_of_scope: ExhaustedAction = ExhaustedAction.REJECT
    """The same for a request that the SLM is not known to be fit for. Default Reject, because a wrong answer is worse
    than none.
    """
