"""`gateway ledger list` shows what is counted, and against what."""

import json
from contextlib import closing

from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.clock import system_clock
from gateway.deployment import initialise
from gateway.ledger import Reservation, Settlement, open_ledger
from gateway.ledger.contracts import charges_under
from gateway.model.contract import Per, Quota
from tests.simulators.contracts import GIVEN_DATASET, make_contract


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
