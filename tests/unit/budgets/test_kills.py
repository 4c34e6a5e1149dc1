"""kill -9 of replicas that spend: their leases come back at once, and everything the upstream billed is counted."""

import asyncio
import os
import random
import sys
from collections import Counter
from pathlib import Path

from hybridroute_serve.journal import Reporter, ReporterSettings
from hybridroute_serve.journal.shipper import ShipperTiming
from support.budgets import KeeperAsker, a_budgeted_policy
from support.clocks import TurnedClock
from support.eventually import eventually
from support.keepers import a_keeper_app
from support.serving import running

LIMIT = 1_000_000

# A replica of its own process: twenty attempts at a time. The upstream's own count is a file that it appends to.
_REPLICA = """
import asyncio, os, random, sys
from pathlib import Path
import aiohttp
from hybridroute_api.serving import LivePolicy
from hybridroute_serve.journal import Reporter, ReporterSettings
from hybridroute_serve.journal.shipper import ShipperTiming
from hybridroute_serve.keeper.budget_client import Denied, DollarAccounts
from support.keepers import TOKEN
from support.reports import an_attempt, an_open_attempt

async def main(directory, url, name, policy):
    settings = ReporterSettings(directory / "journal", url, directory / "token", name, "llm-proxy")
    reporter = Reporter(settings, timing=ShipperTiming(ship_interval_seconds=0.01))
    await reporter.start()
    bill = os.open(directory / "bill", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    draw = random.Random(name)
    async with aiohttp.ClientSession() as session:
        accounts = DollarAccounts(session, url, TOKEN, name)
        await accounts.follow(LivePolicy.model_validate_json(policy))
        await accounts.start()

        async def work(worker):
            for number in range(100_000):
                attempt_id = f"{name}-{worker}-{number}/llm/1"
                bound = draw.choice([50, 400, 3_000, 15_000])
                answer = await accounts.reserve(attempt_id, None, bound)
                if isinstance(answer, Denied):
                    print("denied", flush=True)
                    await asyncio.sleep(0.02)
                    continue
                held = {"attempt_id": attempt_id, "lease_ids": answer.lease_ids}
                reporter.journal.open_attempt(an_open_attempt(attempt_id, reserved_nano_usd=bound, **held))
                await asyncio.sleep(0.001 * draw.random())
                billed = draw.randint(0, bound)
                os.write(bill, b"%d\\n" % billed)
                await asyncio.sleep(0.001 * draw.random())
                settled = accounts.settle(answer, billed if draw.random() < 0.9 else None)
                reporter.journal.close_attempt(an_attempt(attempt_id, settled_nano_usd=settled, **held))
                print("served", flush=True)

        await asyncio.gather(*map(work, range(20)))

asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
"""


def _billed(directory: Path) -> int:
    return sum(map(int, (directory / "bill").read_text().split()))


async def test_every_kill_gives_the_lease_back_and_forgets_no_bill(tmp_path: Path) -> None:
    policy = a_budgeted_policy(LIMIT, "24h")
    app = a_keeper_app(tmp_path, TurnedClock(), live=policy)
    draw = random.Random(7)
    async with running(app) as url:
        ask = KeeperAsker(app)
        survivor = Reporter(
            ReporterSettings(tmp_path / "journal", url, tmp_path / "token", "survivor", "llm-proxy"),
            timing=ShipperTiming(ship_interval_seconds=0.01, adopt_interval_seconds=0.05),
        )
        await survivor.start()
        for life in range(4):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _REPLICA, str(tmp_path), url, f"p{life}", policy.model_dump_json()),
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            said: Counter[bytes] = Counter()
            # The first die in the middle, the last when there is nothing more to spend.
            lines, denials = (draw.randint(5, 60), 1_000) if life < 3 else (100_000, 100)
            while said.total() < lines and said[b"denied\n"] < denials:
                said[await process.stdout.readline()] += 1
            process.kill()
            await process.wait()

            async def is_accounted_for() -> bool:
                budget = (await ask.state())["budget"]
                return bool(budget["reserved_usd"] == "0.000000000")

            await eventually(is_accounted_for)
            spent = int((await ask.state())["budget"]["spent_usd"].replace(".", ""))
            assert _billed(tmp_path) <= spent <= LIMIT
        assert spent >= 0.9 * LIMIT
        await survivor.stop()
