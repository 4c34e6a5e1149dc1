"""Who may spend what: from policy and clients file, with the last good terms kept."""

from pathlib import Path

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.keeper.budget_terms import BudgetTerms
from support.budgets import a_budgeted_policy, write_clients


async def test_terms_come_from_policy_and_clients(tmp_path: Path) -> None:
    keys_file = write_clients(tmp_path / "clients.yaml", {"a": "1.5", "b": None})
    terms = BudgetTerms()
    assert terms.terms is None
    assert await terms.refresh(a_budgeted_policy(7, "24h", keys_file=keys_file))
    assert terms.terms == {
        "route": AccountTerms(7, "24h"),
        "client:a": AccountTerms(1_500_000_000, "60m"),
    }
    assert not await terms.refresh(a_budgeted_policy(7, "24h", keys_file=keys_file))
    assert await terms.refresh(a_budgeted_policy(None))
    assert terms.terms == {}


async def test_a_bad_clients_file_keeps_clients_as_they_were_while_the_routes_limit_follows(
    tmp_path: Path,
) -> None:
    keys_file = write_clients(tmp_path / "clients.yaml", {"a": "0.000000005"})
    terms = BudgetTerms()
    await terms.refresh(a_budgeted_policy(7, keys_file=keys_file))
    for spoil in (lambda: keys_file.write_text("- {"), keys_file.unlink):
        spoil()
        await terms.refresh(a_budgeted_policy(7, keys_file=keys_file))
        assert terms.terms == {"route": AccountTerms(7, "60m"), "client:a": AccountTerms(5, "60m")}
    assert await terms.refresh(a_budgeted_policy(8, keys_file=keys_file))
    assert terms.terms == {"route": AccountTerms(8, "60m"), "client:a": AccountTerms(5, "60m")}


async def test_before_clients_could_be_read_once_nothing_is_known(tmp_path: Path) -> None:
    terms = BudgetTerms()
    assert not await terms.refresh(a_budgeted_policy(keys_file=tmp_path / "missing.yaml"))
    assert terms.terms is None


async def test_a_window_that_means_nothing_changes_nothing() -> None:
    terms = BudgetTerms()
    await terms.refresh(a_budgeted_policy(7, "24h"))
    assert not await terms.refresh(a_budgeted_policy(7, "a fortnight"))
    assert terms.terms == {"route": AccountTerms(7, "24h")}
