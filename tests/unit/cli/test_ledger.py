"""`gateway ledger` shows what is counted, and against what, and makes it anew from the log."""

import json
from contextlib import closing

from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.clock import rfc3339, system_clock
from gateway.contracts.stores import open_contract_store
from gateway.deployment import initialise
from gateway.deployment.changes import record_entry
from gateway.ledger import AccountKind, Reservation, Settlement, open_ledger
from gateway.ledger.contracts import charges_under
from gateway.model.contract import Per, Quota
from tests.simulators.contracts import GIVEN_DATASET, make_contract
from tests.simulators.entries import make_entry
from tests.simulators.negotiated import AGENCY, COMPANY, active


def run(deployment, *words):
    done = CliRunner().invoke(app, [*words, "--config", str(deployment.config), "--output", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_accounts_are_listed_with_their_bounds(tmp_path):
    deployment = initialise(
        tmp_path / "gateway", origin="audit.example.org/log/test", listen="127.0.0.1:0", metrics_port=0
    )
    assert run(deployment, "ledger", "list") == []
    contract = make_contract(Quota(records=10, per=Per.DAY, each="consumer"), Quota(records=50, per=Per.TERM))
    charges = tuple(charges_under(contract, "harbour-bank", GIVEN_DATASET, system_clock()))
    with closing(open_ledger(deployment.load().log.database)) as ledger:
        assert ledger.carry_out([Reservation("e1", 7, charges), Settlement("e1", 4)]) == [None, None]
    all_together, each = run(deployment, "ledger", "list", "--contract", "tradeplatform/orders")
    assert (each["kind"], each["consumer"], each["records"], each["limit"]) == (
        "quota",
        "harbour-bank",
        4,
        10,
    )
    assert each["opens"] > each["since"] == system_clock().date().isoformat()
    assert (all_together["per"], all_together["records"], all_together["opens"]) == ("term", 4, "")
    assert run(deployment, "ledger", "list", "--contract", "tradeplatform/others") == []


def make_deployment(directory):
    return initialise(directory, origin="audit.example.org/log/test", listen="127.0.0.1:0", metrics_port=0)


def test_a_ledger_that_was_lost_is_made_anew_from_the_log_and_the_closed_ones(tmp_path):
    """Control: without the closed log what it tells is missing."""
    closed, deployment = make_deployment(tmp_path / "closed"), make_deployment(tmp_path / "gateway")
    config = deployment.load()
    with closing(open_contract_store(config.contracts_place)) as store:
        contract = active(store).contract()
    for number, place in enumerate((closed.load(), config), start=1):
        released = make_entry(
            number,
            consumer=AGENCY,
            provider=COMPANY,
            dataset=contract.terms.datasets[0].name,
            contract=contract.id,
            records=10 * number,
            time=rfc3339(system_clock()),
        )
        record_entry(place, released)
    assert run(deployment, "ledger", "rebuild") == {"accounts": 1}
    assert [row["records"] for row in run(deployment, "ledger", "list", "--ended")] == [20]
    text = deployment.config.read_text()
    assert "\n[log]\n" in text
    named = f"\n[log]\nprevious = {json.dumps([str(closed.load().log.database)])}\n"
    deployment.config.write_text(text.replace("\n[log]\n", named))
    assert run(deployment, "ledger", "rebuild") == {"accounts": 1}
    [row] = run(deployment, "ledger", "list", "--ended")
    assert (row["kind"], row["of"], row["consumer"], row["records"]) == (
        "quota",
        "amber-trading/amber-customers",
        AGENCY,
        30,
    )


def test_a_ledger_is_not_rebuilt_without_the_contracts_that_the_log_names(tmp_path):
    """What is not known would be counted as nothing. Control: entries under no contract need none."""
    deployment = make_deployment(tmp_path / "gateway")
    config = deployment.load()
    record_entry(config, make_entry(1, time=rfc3339(system_clock())))
    assert run(deployment, "ledger", "rebuild") == {"accounts": 0}
    contract = make_contract(Quota(records=10, per=Per.TERM))
    charges = tuple(charges_under(contract, "harbour-bank", GIVEN_DATASET, system_clock()))
    with closing(open_ledger(config.log.database)) as ledger:
        ledger.carry_out([Reservation("e1", 7, charges), Settlement("e1", 4)])
    record_entry(
        config, make_entry(2, contract=contract.id, dataset=GIVEN_DATASET, time=rfc3339(system_clock()))
    )
    done = CliRunner().invoke(app, ["ledger", "rebuild", "--config", str(deployment.config)])
    assert done.exit_code == 2
    assert "does not keep" in done.output
    with closing(open_ledger(config.log.database)) as ledger:
        assert [one.records for one in ledger.standings() if one.account.kind is AccountKind.QUOTA] == [4]
