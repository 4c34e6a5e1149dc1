"""The engine's load on its way into the heartbeat."""

from hybridroute_serve.engines.engine import EngineDeadError, EngineError, EngineSignals
from hybridroute_serve.slm.signals import SignalWatch, signal_facts
from support.eventually import eventually
from support.slm import ScriptedEngine


class _Busy(ScriptedEngine):
    fails: EngineError | None = None

    async def signals(self) -> EngineSignals:
        if self.fails is not None:
            raise self.fails
        return EngineSignals(running=2, waiting=1, cache_use=1 / 3)


async def test_the_last_answer_is_kept_until_the_engine_is_gone() -> None:
    engine = _Busy("")
    deaths: list[str] = []
    watch = SignalWatch(engine, on_dead=lambda: deaths.append("dead"))
    assert watch.facts() == {}
    watch.start()

    async def told() -> bool:
        return bool(watch.facts())

    async def gone() -> bool:
        return not watch.facts()

    await eventually(told)
    assert watch.facts() == {"engine_running": "2", "engine_waiting": "1", "engine_cache_use": "0.3333"}
    engine.fails = EngineError("no answer in time")
    await eventually(gone)
    assert deaths == []
    engine.fails = EngineDeadError("killed")

    async def dead() -> bool:
        return deaths == ["dead"]

    await eventually(dead)
    await watch.stop()


def test_an_engine_that_tells_no_cache_has_no_such_fact() -> None:
    assert signal_facts(EngineSignals(running=0, waiting=0)) == {"engine_running": "0", "engine_waiting": "0"}
