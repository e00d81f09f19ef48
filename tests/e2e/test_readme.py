"""The documents' commands and tables, executed and compared.

Blocks marked `demo` (```sh demo, ```python demo) run in order, in a copy of the folder that a member is
handed, against the demonstration. Those marked `grpcurl` besides need that tool.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.client.errors import ClientError, error_class
from gateway.demo.invitation import COMMAND_LINE, GRPCURL, OPERATOR, PYTHON
from gateway.errors import Reason
from gateway.rpc.status import CODES

ROOT = Path(__file__).parents[2]
OURS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/contributors.md",
    "docs/developers.md",
    "docs/operate.md",
    "docs/security-officers.md",
    "docs/threat-model.md",
    "docs/formats/export.md",
    "docs/formats/filter.md",
    "docs/formats/receipt.md",
    "docs/formats/acknowledgement.md",
    "docs/formats/holdings.md",
    "docs/formats/tiles.md",
    "docs/adr/0001-record-architecture-decisions.md",
    "docs/adr/0006-wire-api.md",
    "docs/adr/0019-search-by-bits.md",
    "docs/adr/0020-reading-is-recorded.md",
    "docs/adr/0021-shards.md",
)
WITH_COMMANDS = (
    "README.md",
    "docs/developers.md",
    "docs/operate.md",
    "docs/formats/receipt.md",
    "docs/formats/acknowledgement.md",
)

_BLOCK = re.compile(r"^```(sh|python) demo( grpcurl)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")
_REASON = re.compile(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \| (.+) \|$", re.MULTILINE)

needs_tools = pytest.mark.skipif(
    not (shutil.which("jq") and shutil.which("openssl")), reason="jq and openssl are not installed"
)
PATH = f"{os.environ['PATH']}{os.pathsep}{ROOT / '.tools/bin'}"
needs_grpcurl = pytest.mark.skipif(
    not shutil.which("grpcurl", path=PATH),
    reason="grpcurl is neither installed nor built: run `make foreign` (needs Go 1.26 or later)",
)


@dataclass(frozen=True)
class Block:
    language: str
    grpcurl: bool
    text: str

    @property
    def command(self) -> str:
        if self.language == "sh":
            return self.text
        return f"python - <<'END_OF_BLOCK'\n{self.text}END_OF_BLOCK\n"


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    return [Block(match[1], bool(match[2]), match[3]) for match in _BLOCK.finditer(text)]


def run(
    commands: str, kept_demo, tmp_path: Path, member: str = "harbour-bank"
) -> subprocess.CompletedProcess[str]:
    """Run `commands` as somebody at a member would, in a folder of their own and with an empty home."""
    folder = kept_demo.member_folder(tmp_path / member, member)
    return subprocess.run(
        ["bash", "-c", f'set -euo pipefail\n. "{kept_demo.directory}/env.sh"\ncd "{folder}"\n{commands}'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        cwd=tmp_path,
        env={"PATH": PATH, "HOME": str(tmp_path)},
        check=False,
    )


def run_document(
    document: str, kept_demo, tmp_path: Path, *, grpcurl: bool, member: str = "harbour-bank"
) -> str:
    commands = "".join(block.command for block in blocks(document) if grpcurl or not block.grpcurl)
    assert commands
    done = run(commands, kept_demo, tmp_path, member)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_leads_to_an_answer_that_is_verified(kept_demo, tmp_path):
    told = run_document("README.md", kept_demo, tmp_path, grpcurl=False)
    assert '"representative_id":"sg1:harbour-bank.credit-check:' in told
    assert "log entry" in told
    assert "exit code 1" in told, "the query for too much was not refused"
    assert "company.jsonl verifies: 1 record" in told
    assert "exit code 3" in told, "the changed record was not refused"
    assert '"consumer":"harbour-bank"' in told
    assert "each as the log's key has signed it" in told
    assert "changed: exit code 3" in told, "the changed export was not refused"


@needs_tools
def test_the_developers_page_works(kept_demo, tmp_path):
    told = run_document("docs/developers.md", kept_demo, tmp_path, grpcurl=False)
    assert "FIELD_ABOVE_TIER ('FIELD_ABOVE_TIER',)" in told
    assert "300 records, proven by log entry" in told


@needs_tools
@needs_grpcurl
def test_a_statement_signed_by_hand_is_answered_with_a_receipt(kept_demo, tmp_path):
    told = run_document("docs/developers.md", kept_demo, tmp_path, grpcurl=True)
    assert "grpcurl.receipt.json verifies" in told


def test_the_operators_page_works(kept_demo, tmp_path):
    run_document("docs/operate.md", kept_demo, tmp_path, grpcurl=False)


def test_the_officers_page_works(kept_demo, tmp_path):
    told = run_document("docs/security-officers.md", kept_demo, tmp_path, grpcurl=False)
    assert "everything is as it must be" in told
    assert '"through":"search"' in told, "the reading before was not recorded"
    assert "november.csv verifies" in told
    assert told.count("exit code 3") == 1, "the changed report was not refused"
    assert "exit code 2" in told, "a rotation under a running gateway was not refused"


def test_the_contributors_page_works(kept_demo, tmp_path):
    told = run_document("docs/contributors.md", kept_demo, tmp_path, grpcurl=False, member="tradeplatform")
    assert "state                  suspended, by tradeplatform" in told
    assert '"consumer":"inspectorate"' in told
    assert "each of the 2 entries it counts stands in" in told
    assert '"kind":"first-use"' in told
    assert '"outcome":"done"' in told


def test_every_command_of_the_contributors_page_exists():
    text = (ROOT / "docs/contributors.md").read_text()
    named = re.findall(
        r"^gateway ((?:contract|usage|corrections|receipt) [a-z]+|contribute)\b(.*)$", text, re.MULTILINE
    )
    page = (ROOT / "docs/cli.md").read_text()
    assert len(named) > 15
    for command, options in named:
        section = page.split(f"### gateway {command}\n")[1].split("\n### ")[0]
        for option in re.findall(r"--[a-z-]+", options):
            assert f"`{option}`" in section, f"{command} {option}"


def test_the_receipt_page_recomputes_what_the_log_commits_to(kept_demo, tmp_path):
    told = run_document("docs/formats/receipt.md", kept_demo, tmp_path, grpcurl=False)
    assert "the record is the one released by log entry" in told


def test_the_acknowledgement_page_signs_for_an_answer(kept_demo, tmp_path):
    told = run_document("docs/formats/acknowledgement.md", kept_demo, tmp_path, grpcurl=False)
    assert "acknowledged  " in told


def test_a_block_that_fails_is_noticed(kept_demo, tmp_path):
    block = blocks("README.md")[0]
    assert "registry/companies" in block.text
    done = run(block.text.replace("registry/companies", "registry/nonesuch"), kept_demo, tmp_path)
    assert done.returncode != 0
    assert "DATASET_UNKNOWN" in done.stderr


def test_what_the_kept_demo_suggests_works(kept_demo, tmp_path):
    for commands in (COMMAND_LINE, PYTHON):
        assert commands in kept_demo.told
    entry = re.search(r"^gateway audit show ([0-9]+) ", kept_demo.told, re.MULTILINE)
    assert entry is not None
    operator = OPERATOR.format(entry=entry[1])
    assert operator in kept_demo.told
    done = run(COMMAND_LINE + PYTHON + operator, kept_demo, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "answer.jsonl verifies: 1 record" in done.stdout
    assert 'sluicegate_exchanges_total{operation="stream",outcome="released",reason="none"}' in done.stdout


@needs_tools
@needs_grpcurl
def test_what_the_kept_demo_suggests_for_grpcurl_works(kept_demo, tmp_path):
    assert GRPCURL in kept_demo.told
    done = run(GRPCURL, kept_demo, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"tlog_proof"' in done.stdout


def test_the_table_of_reasons_is_complete_and_right():
    rows = {match[1]: match[2] for match in _REASON.finditer((ROOT / "docs/developers.md").read_text())}
    assert rows == {reason.value: CODES[reason].name for reason in Reason}


def test_every_reason_has_its_class_named_as_the_page_says():
    text = (ROOT / "docs/developers.md").read_text()
    assert "`REPLAYED` raises `ReplayedError`" in text
    assert error_class(Reason.REPLAYED).__name__ == "ReplayedError"
    assert len({error_class(reason) for reason in Reason} - {ClientError}) == len(Reason)


@pytest.mark.parametrize("document", OURS)
def test_every_link_leads_to_a_file(document):
    text = (ROOT / document).read_text()
    missing = [link for link in _LINK.findall(text) if not (ROOT / document).parent.joinpath(link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", OURS)
def test_every_make_target_that_is_named_exists(document):
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / document).read_text()
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets
