"""How the operator reaches its API server, and the Lease that lets one replica lead."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration, V1Lease, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

__all__ = ["connect", "lead"]

_LOG = logging.getLogger(__name__)

LEASE_NAME: Final = "hybridroute-operator"
_LEASE_SECONDS: Final = 15
"""A killed leader is followed within this and two retries: 19 s."""
_RENEW_SECONDS: Final = 10
_RETRY_SECONDS: Final = 2


class _Lease(LeaseLock):
    """The library's own, but for `create`: that of kubernetes 37.0.2 passes `pretty=True`, which its client refuses."""

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Make the Lease; return whether this replica did."""
        body = V1Lease(metadata=V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, body)
        except ApiException as error:
            _LOG.warning("lease was not created name=%s status=%s", name, error.status)
            return False
        return True


async def connect(kubeconfig: str | None) -> ApiClient:
    """Return a client for the file's current context, or for the pod's own account."""
    configuration = Configuration()
    if kubeconfig is not None:
        await config.load_kube_config(kubeconfig, client_configuration=configuration)
    else:
        config.load_incluster_config(client_configuration=configuration)
    return ApiClient(configuration)


async def lead(
    client: ApiClient,
    namespace: str,
    identity: str,
    work: Callable[[], Awaitable[None]],
    stopping: asyncio.Event,
) -> bool:
    """Wait for the lease, work while it is held; return False when it was lost before `stopping` was set.

    Raises what `work` raises.
    A process that lost its lease must end: what it was doing may overlap with its successor for no longer.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def started() -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again below
            done.set_exception(error)
        finally:
            if not done.done():
                done.set_result(None)

    async def stopped() -> None:
        _LOG.error("lease was lost identity=%s", identity)

    election = LeaderElection(
        Config(
            _Lease(LEASE_NAME, namespace, identity, client),
            lease_duration=_LEASE_SECONDS,
            renew_deadline=_RENEW_SECONDS,
            retry_period=_RETRY_SECONDS,
            onstarted_leading=started,
            onstopped_leading=stopped,
        )
    )
    running = asyncio.create_task(election.run(), name="leader election")
    told = asyncio.create_task(stopping.wait())
    waits: list[asyncio.Future[Any]] = [running, told, done]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # an election that failed is no lease that was lost
        lost = running.done() and not stopping.is_set()
        if not running.done() and not done.done() and _leads(election, identity):
            await asyncio.wait([done])  # `work` sees `stopping` too and ends by itself
        if done.done():
            done.result()
        return not lost
    finally:
        for task in (running, told):
            task.cancel()
        await asyncio.gather(running, told, return_exceptions=True)


def _leads(election: LeaderElection, identity: str) -> bool:
    record = election.observed_record
    return record is not None and record.holder_identity == identity
