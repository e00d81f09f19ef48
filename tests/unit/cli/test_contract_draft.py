"""`gateway contract draft`: a file that says what every term means, and that is taken as it is."""

from __future__ import annotations

from pathlib import Path

from gateway.cli.contract_draft import load_terms
from gateway.contracts.checks import verify_terms
from tests.simulators.contract_drafts import GIVER, NAME, TAKER, drafted
from tests.simulators.negotiated import TIERS
from tests.unit.cli.conftest import Commands


def test_a_draft_says_all_that_a_contract_needs(tmp_path: Path) -> None:
    terms = load_terms(drafted(tmp_path))
    [dataset] = verify_terms(terms, TIERS).values()
    assert (dataset.name, terms.contract, terms.version) == (f"members/{GIVER}/datasets/customers", NAME, 1)
    assert terms.datasets[0].description["slaProperties"][0]["value"] == "99.9"


def test_a_draft_whose_comments_are_taken_away_is_still_one(tmp_path: Path) -> None:
    """What is commented out shows the right form."""
    file = drafted(tmp_path)
    text = file.read_text()
    for line in (
        "    # fields:",
        "    #   uscc: {treatment: release}",
        "    # key: []",
        "# price: {",
        "  # classes: [",
        "  # - {records: 1000, per: day",
        '# contact: "',
    ):
        assert line in text
        text = text.replace(line, line.replace("# ", "", 1))
    file.write_text(text)
    terms = load_terms(file)
    verify_terms(terms, TIERS)
    assert terms.price is not None
    assert terms.recipients.classes == ("agency",)
    assert len(terms.quotas) == 2
    assert terms.datasets[0].fields.keys() == {"uscc"}


def test_a_description_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    for text in ("[]", "id: x\n", "id: 7\n"):
        file.write_text(text)
        result = Commands()("contract", "draft", file, "--contributor", GIVER, "--recipient", TAKER)
        assert result.exit_code == 2, result.output
