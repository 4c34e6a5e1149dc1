"""The keeper at work: the store and its thread, the live policy's file, budgets, and the upkeep between batches.

Composition root of the keeper, without HTTP (`app`). SQLite runs in two threads of its own, one that writes and
one that reads, so that neither the event loop nor a commit waits for a scrape.
"""

import asyncio
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from hybridroute_api.facts import MODEL_DIGEST
from hybridroute_api.records import Batch
from hybridroute_api.serving import DATABASE_NAME, KeeperArgs, LivePolicy
from hybridroute_api.standing import DriftStanding, Guarantee
from hybridroute_serve.budgets import store as ledger_store
from hybridroute_serve.keeper import artifact_desk
from hybridroute_serve.keeper.api_server import ApiConnection, ConfigMap, find_api_access
from hybridroute_serve.keeper.budget_messages import ShareAnswer, ShareCall
from hybridroute_serve.keeper.committer import Committer
from hybridroute_serve.keeper.config_map import ConfigMapFollower
from hybridroute_serve.keeper.documents import is_alive
from hybridroute_serve.keeper.dollars import DollarParts, Dollars
from hybridroute_serve.keeper.incumbency import Incumbency, NotLeadingError, ask_service
from hybridroute_serve.keeper.ledger_home import ConfigMapLedgerHome, FileLedgerHome, LedgerHome
from hybridroute_serve.keeper.live import LiveFile
from hybridroute_serve.keeper.metric_table import BUDGET_DENIED
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.retention import enforce_retention
from hybridroute_serve.keeper.retry_shares import RetryShares
from hybridroute_serve.keeper.store import FencedError, Store
from hybridroute_serve.keeper.tally import Totals
from hybridroute_serve.routing.artifact.validity import changed_weights
from hybridroute_serve.routing.embeddings import read_embedding_digest
from hybridroute_serve.routing.guarantee import decide_guarantee

__all__ = ["Keeper", "NoPolicyError"]

_LOG = logging.getLogger(__name__)

UPKEEP_SECONDS = 5.0
RETENTION_ROUNDS = 12
"""Retention every so many rounds of upkeep: once a minute."""
RESTART_SECONDS = 1.0
BUDGETS_SECONDS = 0.5
"""How often clients' budgets, silent holders and the ledger's epoch are looked at."""

T = TypeVar("T")


class NoPolicyError(Exception):
    """The keeper has never seen a good live policy; nothing can be priced yet."""


class Keeper:
    """One keeper. `start` it before the first call."""

    def __init__(
        self,
        args: KeeperArgs,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        read_embedding: Callable[[str], str] = read_embedding_digest,
    ) -> None:
        """`read_embedding` returns the digest of the embedding of a name, as routers have it."""
        self.route = args.route
        self.superseded: str | None = None
        """Set for good once a newer keeper has taken over."""
        self._args = args
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._path = Path(args.state_dir) / DATABASE_NAME
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="keeper-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="keeper-read")
        self._tasks: list[asyncio.Task[None]] = []
        self._api: ApiConnection | None = None
        self._follower: ConfigMapFollower | None = None
        self.incumbency: Incumbency | None = None
        """None on one machine, where nobody else can be the route's keeper."""
        if args.service_url is not None:
            self.incumbency = Incumbency(ask_service(args.service_url), monotonic=monotonic, sleep=sleep)
        self._read_embedding = read_embedding
        self._weights: frozenset[str] = frozenset()
        if args.live_config_map is not None or args.ledger_config_map is not None:
            self._api = ApiConnection(find_api_access(os.environ))
        if self._api is not None and args.live_config_map is not None:
            self._follower = ConfigMapFollower(
                self._api, args.live_config_map, Path(args.live_file), sleep=sleep
            )

    async def start(self) -> None:
        """Open the file in a new epoch. Errors: SchemaError, sqlite3.Error, OSError."""
        self._store = await self._write(lambda: Store(self._path, self.route, self._clock))
        self._reads = await asyncio.get_running_loop().run_in_executor(self._reader, Reads, self._path)
        last_good = await self._write(self._store.load_policy)
        self.live = LiveFile(
            Path(self._args.live_file), self.route, last_good, self._take_policy, sleep=self._sleep
        )
        self.drift = self._store.drift
        self.artifacts = artifact_desk.ArtifactDesk(
            self._path.parent, self._api, self._read_embedding, self._follow_artifact
        )
        self._committer = Committer(self._apply, self._writer)
        self.shares = RetryShares(epoch=self.epoch, monotonic=self._monotonic)
        self.dollars = Dollars(
            DollarParts(
                home=self._find_ledger_home(),
                clock=self._clock,
                monotonic=self._monotonic,
                confirm_epoch=self._confirm_epoch,
                read_lease_sums=self.read_lease_sums,
            )
        )
        if not await self._write(lambda: self._store.has_ledger):
            await self.dollars.make_first()
            await self._write(self._store.note_ledger)
        if self._follower is not None:
            await self._follower.refresh()
        await self.live.refresh()
        await self._follow_policy()
        await self.artifacts.refresh(self.live.policy)
        self._tasks = [
            asyncio.create_task(self._keep_running(self._watch_budgets), name="keeper-budgets"),
            asyncio.create_task(self._keep_running(self.live.watch), name="keeper-live"),
            asyncio.create_task(self._keep_running(self._upkeep), name="keeper-upkeep"),
            asyncio.create_task(self._keep_running(self._watch_artifact), name="keeper-artifact"),
        ]
        if self._follower is not None:
            self._tasks.append(
                asyncio.create_task(self._keep_running(self._follower.watch), name="keeper-config-map")
            )
        if self.incumbency is not None:
            self._tasks.append(
                asyncio.create_task(self._keep_running(self.incumbency.watch), name="keeper-incumbency")
            )
        _LOG.info("keeper has started route=%s epoch=%d", self.route, self.epoch)

    async def stop(self) -> None:
        """Finish what has been submitted, and let go of the file."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._committer.stop()
        await self.dollars.close()
        if self._api is not None:
            await self._api.stop()
        await self._write(self._store.close)
        await self.read(Reads.close)
        self._writer.shutdown()
        self._reader.shutdown()

    @property
    def epoch(self) -> int:
        """This keeper's epoch."""
        return self._store.epoch

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    async def submit(self, batch: Batch) -> None:
        """Make a batch durable. Errors: BadBatchError, NoPolicyError, FencedError, sqlite3.Error."""
        if self.live.policy is None:
            raise NoPolicyError(self.live.error or "the live policy has not been read yet")
        with self.under_fence():
            await self._committer.submit(batch)
        try:
            await self.dollars.learn(batch)
        except (ledger_store.FencedError, FencedError) as error:
            self._note_fence(error)
        except (sqlite3.Error, OSError) as error:
            # The batch is stored. What it would have ended early ends when it has been silent long enough.
            _LOG.error("ledger could not be told of a batch error=%s", error)

    async def renew_share(self, call: ShareCall) -> ShareAnswer | None:
        """Lend a replica its part of the retry budget. Errors: NoPolicyError, FencedError, sqlite3.Error."""
        if self.live.policy is None:
            raise NoPolicyError(self.live.error or "the live policy has not been read yet")
        with self.under_fence():
            # Nothing is written, so nothing else would notice a newer keeper that lends the same.
            await self._confirm_epoch()
            return self.shares.renew(call)

    async def await_lead(self) -> None:
        """Return when the ledger is this keeper's to work with. Raises NotLeadingError after some patience."""
        if self.incumbency is None or not self.dollars.waits_for_claims:
            return
        if await self.incumbency.is_elsewhere():
            raise NotLeadingError("the route's Service leads to another gateway's keeper")

    @contextmanager
    def under_fence(self) -> Iterator[None]:
        """Do what only the keeper of the latest epoch may; the first refusal is remembered for good."""
        if self.superseded is not None:
            raise FencedError(self.superseded)
        try:
            yield
        except (ledger_store.FencedError, FencedError) as error:
            self._note_fence(error)
            raise FencedError(str(error)) from error

    def check_health(self) -> None:
        """Raise once another gateway has taken over: this process is to be replaced, see `incumbency`."""
        if self.incumbency is not None and self.incumbency.has_passed:
            raise FencedError("another gateway has taken over")

    async def read(self, query: Callable[[Reads], T]) -> T:
        """Run a query in the reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, lambda: query(self._reads))

    async def read_lease_sums(self, lease_ids: Sequence[str]) -> dict[str, int]:
        """Return what journals say was settled in these dollar leases, nano-USD."""
        return await self._write(lambda: self._store.read_lease_sums(lease_ids))

    async def maintain(self, *, retention: bool) -> None:
        """One round of upkeep: close the lives of silent replicas, give orphans a record, forget the old."""
        policy = self.live.policy
        if policy is None or self.superseded is not None:
            return
        try:
            ended = await self._write(partial(self._store.end_silent_replicas, policy))
            orphans = await self._write(partial(self._store.record_orphans, policy))
            if ended or orphans:
                _LOG.warning("upkeep found silent_replicas=%d orphaned_requests=%d", ended, orphans)
            if retention:
                leases = self.dollars.lease_ids()
                if leases is not None:
                    await self._write(partial(self._store.keep_lease_sums, leases))
                pruned = await enforce_retention(self._store, policy.records, self._write)
                if pruned.by_age or pruned.by_size:
                    _LOG.info("records were deleted by_age=%d by_size=%d", pruned.by_age, pruned.by_size)
        except FencedError as error:
            self._note_fence(error)

    async def _upkeep(self) -> None:
        rounds = 0
        while True:
            await self._sleep(UPKEEP_SECONDS)
            rounds += 1
            await self.maintain(retention=rounds % RETENTION_ROUNDS == 0)

    async def check_budgets(self) -> None:
        """One look at clients' budgets, at silent holders and at the ledger's epoch."""
        await self._follow_policy()
        if self.superseded is not None:
            return
        try:
            await self.dollars.sweep()
            denied = self.dollars.take_denials()
            if denied:
                totals: Totals = Counter(
                    {(BUDGET_DENIED.name, (self.route, name)): count for name, count in denied.items()}
                )
                await self._write(partial(self._store.add_totals, totals))
        except (ledger_store.FencedError, FencedError) as error:
            self._note_fence(error)
        except ledger_store.StoreUnavailableError as error:
            _LOG.warning("ledger did not answer reason=%s", error)

    async def _watch_budgets(self) -> None:
        while True:
            await self.check_budgets()
            await self._sleep(BUDGETS_SECONDS)

    @property
    def audited(self) -> bool:
        """Whether the route asks for audits."""
        asked = self.live.policy.routing.artifact if self.live.policy is not None else None
        return asked is not None and asked.audit_share > 0.0

    def standing(self) -> DriftStanding:
        """Return what routers decide by beside the live policy."""
        held = self.artifacts.held
        changed = changed_weights(held.header, self._weights) if held is not None else None
        return replace(self.drift.standing(audited=self.audited), changed=changed)

    def judge_promise(self) -> Guarantee:
        """Return whether the promise holds."""
        policy = self.live.policy
        return decide_guarantee(
            self.artifacts.plan(policy),
            self.standing(),
            asked=policy is not None and policy.routing.artifact is not None,
            problem=self.artifacts.problem,
        )

    async def _watch_artifact(self) -> None:
        while True:
            await self._sleep(artifact_desk.POLL_SECONDS)
            await self.artifacts.refresh(self.live.policy)
            # While no replica lives, the weights that are loaded next are not known: the last ones count.
            self._weights = await self._read_weights() or self._weights

    async def _read_weights(self) -> frozenset[str]:
        replicas = await self.read(Reads.read_replicas)
        alive = (replica.heartbeat for replica in replicas if is_alive(replica, self.now))
        return frozenset(
            beat.facts[MODEL_DIGEST] for beat in alive if beat.app == "slm" and MODEL_DIGEST in beat.facts
        )

    async def _follow_artifact(self) -> None:
        held = self.artifacts.held
        digest, baseline = (held.digest, held.header.drift) if held is not None else ("", None)
        # In the writing thread, which observes: no record is judged by half of a change.
        await self._write(partial(self.drift.follow, digest, baseline))

    async def _take_policy(self, policy: LivePolicy) -> None:
        await self._follow_policy()
        await self.artifacts.refresh(policy)
        await self._save_policy(policy)

    async def _follow_policy(self) -> None:
        policy = self.live.policy
        if policy is None or self.superseded is not None:
            return
        self.shares.follow(policy.llm.retries)
        try:
            await self.dollars.follow(policy)
        except (ledger_store.FencedError, FencedError) as error:
            self._note_fence(error)
        except (sqlite3.Error, OSError, ValueError) as error:
            _LOG.error("budgets could not be brought in force error=%s", error)

    def _find_ledger_home(self) -> LedgerHome:
        if self._api is None or self._args.ledger_config_map is None:
            return FileLedgerHome(self._path.parent)
        namespace, name = self._args.ledger_config_map.split("/")
        config_map = ConfigMap(self._api, namespace, name)
        return ConfigMapLedgerHome(config_map, monotonic=self._monotonic, sleep=self._sleep)

    async def _confirm_epoch(self) -> None:
        epoch = await self.read(Reads.read_epoch)
        if epoch != self.epoch:
            raise FencedError(f"keeper of epoch {self.epoch} was superseded by epoch {epoch}")

    async def _save_policy(self, policy: LivePolicy) -> None:
        # In force already; without a saved copy only a restart beside a bad file would miss it.
        try:
            await self._write(partial(self._store.save_policy, policy))
        except FencedError as error:
            self._note_fence(error)
        except sqlite3.Error as error:
            _LOG.error("live policy was not saved error=%s", error)

    def _apply(self, batches: Sequence[Batch]) -> None:
        policy = self.live.policy
        assert policy is not None  # noqa: S101 - `submit` asks, and a policy never goes away
        self._store.apply_batches(batches, policy)

    def _note_fence(self, error: Exception) -> None:
        if self.superseded is None:
            _LOG.critical("keeper was superseded and writes no more route=%s reason=%s", self.route, error)
        self.superseded = str(error)

    async def _write(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    async def _keep_running(self, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - upkeep that fails once (a full disk) must not end for good
                _LOG.exception("keeper task failed route=%s", self.route)
            await self._sleep(RESTART_SECONDS)
