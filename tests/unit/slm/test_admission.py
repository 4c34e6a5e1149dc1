"""Who is admitted, who waits, and that every place comes back."""

import asyncio

import pytest

from hybridroute_serve.slm.admission import Admission, OverloadedError

PATIENCE_SECONDS = 60.0


async def test_the_limit_refuses_at_once_and_frees_with_the_request() -> None:
    admission = Admission(limit=2, engine_places=1)
    async with admission.admit():
        async with admission.admit():
            with pytest.raises(OverloadedError):
                async with admission.admit():
                    pass
            assert admission.ongoing == 2
        async with admission.admit():
            assert admission.ongoing == 2
    assert admission.ongoing == 0


async def test_places_go_to_who_came_first() -> None:
    admission = Admission(limit=10, engine_places=1)
    served: list[int] = []

    async def serve(number: int) -> None:
        async with admission.take_place(PATIENCE_SECONDS):
            served.append(number)

    async with admission.take_place(PATIENCE_SECONDS):
        waiting = [asyncio.create_task(serve(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert served == []
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3, 4]


async def test_who_waits_too_long_is_refused() -> None:
    admission = Admission(limit=10, engine_places=1)
    async with admission.take_place(PATIENCE_SECONDS):
        with pytest.raises(OverloadedError):
            async with admission.take_place(0.0):
                pass
    async with admission.take_place(PATIENCE_SECONDS):
        pass


async def test_a_place_that_was_waited_for_in_vain_is_not_lost() -> None:
    admission = Admission(limit=10, engine_places=2)

    async def wait() -> None:
        async with admission.take_place(PATIENCE_SECONDS):
            raise AssertionError("no place was free")

    async with admission.take_place(PATIENCE_SECONDS), admission.take_place(PATIENCE_SECONDS):
        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with admission.take_place(PATIENCE_SECONDS), admission.take_place(PATIENCE_SECONDS):
        pass


async def test_a_timeout_of_the_request_itself_is_not_an_overload() -> None:
    admission = Admission(limit=1, engine_places=1)
    with pytest.raises(TimeoutError):
        async with admission.take_place(PATIENCE_SECONDS):
            raise TimeoutError
    async with admission.take_place(PATIENCE_SECONDS):
        pass
