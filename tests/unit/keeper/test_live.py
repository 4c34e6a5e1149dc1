"""Which live file is in force."""

from pathlib import Path

from hybridroute_api.serving import LivePolicy, LlmPolicy
from hybridroute_serve.keeper.live import LiveFile
from support.keepers import write_live
from support.policies import a_policy, a_retry_policy, an_upstream


class _Watch:
    def __init__(self, directory: Path, last_good: LivePolicy | None = None) -> None:
        self.taken: list[LivePolicy] = []
        self.live = LiveFile(directory / "live.json", "support", last_good, self._take)

    async def _take(self, policy: LivePolicy) -> None:
        self.taken.append(policy)


async def test_a_change_is_taken_once(tmp_path: Path) -> None:
    write_live(tmp_path, a_policy())
    watch = _Watch(tmp_path)
    await watch.live.refresh()
    await watch.live.refresh()
    write_live(tmp_path, a_policy())
    await watch.live.refresh()
    assert watch.taken == [a_policy()]
    changed = a_policy(max_body_bytes=1)
    write_live(tmp_path, changed)
    await watch.live.refresh()
    assert watch.taken == [a_policy(), changed]
    assert watch.live.policy == changed


async def test_bad_files_are_refused_with_a_reason_and_a_good_one_heals(tmp_path: Path) -> None:
    watch = _Watch(tmp_path, last_good=a_policy())
    bad = {
        "not json": "live.json is not in force: Invalid JSON: ",
        a_policy(
            route="other"
        ).model_dump_json(): "live.json is not in force: it is of route other, not of support",
        '{"route": "support", "version": "x"}': "live.json is not in force: mode: Field required",
        a_policy().model_dump_json().replace(a_policy().version, "0" * 16): (
            "live.json is not in force: Value error, version 0000000000000000 does not match"
        ),
    }
    for text, reason in bad.items():
        write_live(tmp_path, text)
        await watch.live.refresh()
        assert watch.live.error is not None
        assert watch.live.error.startswith(reason)
        assert watch.live.policy == a_policy()
    (tmp_path / "live.json").unlink()
    await watch.live.refresh()
    assert watch.live.error == "live.json is not in force: it cannot be read: No such file or directory"
    write_live(tmp_path, a_policy())
    await watch.live.refresh()
    assert watch.live.error is None
    assert watch.taken == []


async def test_an_error_shows_no_value_of_the_document(tmp_path: Path) -> None:
    upstream = an_upstream(headers={"x-key": "secret-value"})
    policy = a_policy(llm=LlmPolicy(upstreams=(upstream,), retries=a_retry_policy()))
    write_live(tmp_path, policy.model_dump_json().replace('"secret-value"', '["secret-value"]'))
    watch = _Watch(tmp_path)
    await watch.live.refresh()
    assert watch.live.error == (
        "live.json is not in force: llm.upstreams.0.headers.x-key: Input should be a valid string"
    )
