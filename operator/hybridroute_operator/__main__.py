"""`python -m hybridroute_operator`: wires the operator and runs it until it is told to stop or loses its lease."""

import asyncio
import logging
import os
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, cast

import kopf

from hybridroute_api.crd import PLURAL
from hybridroute_api.v1alpha1.resource import API_VERSION
from hybridroute_operator.cluster.api import Api
from hybridroute_operator.cluster.connection import connect, lead
from hybridroute_operator.cluster.discovery import wait_for_kinds
from hybridroute_operator.cluster.keeper import HttpKeeperReader, new_keeper_session
from hybridroute_operator.cluster.kubernetes import KubernetesCluster
from hybridroute_operator.handlers.events import render_kopf_settings, watch_routes
from hybridroute_operator.logs import configure_logging
from hybridroute_operator.metrics import OperatorMetrics
from hybridroute_operator.probes import serve_probes
from hybridroute_operator.queue import RouteQueue
from hybridroute_operator.reconcile import Reconciler
from hybridroute_operator.settings import OperatorSettings, parse_settings

_LOG = logging.getLogger(__name__)

_KUBERAY_SECONDS = 5.0


async def run(settings: OperatorSettings, stopping: asyncio.Event) -> bool:
    """Run until `stopping` is set; return False when the lease was lost instead."""
    metrics = OperatorMetrics()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(await connect(settings.kubeconfig))
        session = await stack.enter_async_context(new_keeper_session())
        await stack.enter_async_context(serve_probes(settings.probe_port, metrics))

        async def watch() -> None:
            _LOG.info("leading began identity=%s", settings.identity)
            metrics.set_leading(True)
            api = Api(client, metrics.count_call)
            if not await wait_for_kinds(api, [(API_VERSION, PLURAL)], stopping):
                return
            # KubeRay may come later, and routes say so; when it comes at the same time it is waited for.
            await wait_for_kinds(api, [("ray.io/v1", "rayservices")], stopping, seconds=_KUBERAY_SECONDS)
            cluster = KubernetesCluster(
                api,
                HttpKeeperReader(session),
                domain=settings.cluster.cluster_domain,
                now=_now,
                identity=settings.identity,
            )
            reconciler = Reconciler(cluster, settings.cluster, now=_now, make_token=_make_token)
            queue = RouteQueue(reconciler.reconcile, on_round=metrics.count_round)
            try:
                await kopf.operator(
                    registry=watch_routes(queue.add),
                    settings=render_kopf_settings(),
                    clusterwide=not settings.namespaces,
                    namespaces=list(settings.namespaces),
                    standalone=True,
                    # Else kopf looks the user's name up, and the image's has none. Its type is not exported.
                    identity=cast("Any", settings.identity),
                    stop_flag=stopping,
                )
            finally:
                metrics.set_leading(False)
                await queue.stop()

        if not settings.leader_election:
            await watch()
            return True
        return await lead(client, settings.lease_namespace, settings.identity, watch, stopping)


def _now() -> datetime:
    return datetime.now(UTC)


def _make_token() -> str:
    return secrets.token_urlsafe(32)


async def _main(settings: OperatorSettings) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    kept_lease = await run(settings, stopping)
    _LOG.info("operator stopped lease=%s", "kept" if kept_lease else "lost")
    return 0 if kept_lease else 1


if __name__ == "__main__":
    configure_logging()
    sys.exit(asyncio.run(_main(parse_settings(sys.argv[1:], os.environ))))
