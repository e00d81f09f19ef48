"""What the demonstration says when it is left running: how to call it, and how to verify the answer."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

from gateway.demo.narrator import Narrator

ENVIRONMENT: Final = """\
# The demonstration's gateway, as a developer at Harbour Bank sees it. Use: . {directory}/env.sh
export PATH={programs}:"$PATH"
export DEMO={directory}
export GATEWAY={address}
export METRICS=http://127.0.0.1:{metrics_port}/metrics
export COMPANY={company}
cd "$DEMO/members/harbour-bank"
"""

COMMAND_LINE: Final = """\
gateway query registry/companies --subject uscc="$COMPANY" --purpose credit-check \\
  --legal-basis credit-reporting-act-14 --memorandum registry-harbour-bank --out answer.jsonl
gateway receipt verify answer.jsonl.receipt.json --records answer.jsonl
"""

PYTHON: Final = """\
python - <<'END'
import os, pathlib
from gateway.client import Client, Subject
with Client.from_config("client.toml") as client:
    page = client.query("members/registry/datasets/companies", purpose="public-lookup",
                        subjects=[Subject("uscc", os.environ["COMPANY"])])
print(page.records, "log entry", page.verified.index)
pathlib.Path("python.receipt.json").write_bytes(page.receipt.to_json())
END
"""

GRPCURL: Final = """\
payload=$(jq -cjnS --arg company "$COMPANY" --arg time "$(date -u +%FT%TZ)" \\
  --arg nonce "$(openssl rand -base64 16 | tr '+/' '-_' | tr -d '=')" \\
  --arg audience "$(jq -r .origin trust.json)" \\
  '{audience: $audience, dataset: "members/registry/datasets/companies", nonce: $nonce, operation: "query",
    purpose: "public-lookup", subjects: [{field: "uscc", value: $company}], time: $time}' | base64 -w0)
grpcurl -cacert ca.pem -cert member.pem -key tls.key -max-time 5 -d @ "$GATEWAY" \\
  gateway.api.v1.ExchangeService/Query <<END
{"envelope": {"payload": "$payload", "payload_type": "application/vnd.sluicegate.query.v1+json"}}
END
"""

OPERATOR: Final = """\
gateway audit list --member harbour-bank --limit 5 --config "$DEMO/gateway/config.toml"
gateway audit show {entry} --config "$DEMO/gateway/config.toml"
curl -s "$METRICS" | grep ^sluicegate_exchanges_total
"""


def write_environment(directory: Path, address: str, metrics_port: int, company: str) -> Path:
    """Write the shell file that puts a developer in place; return its path."""
    path = directory / "env.sh"
    path.write_text(
        ENVIRONMENT.format(
            programs=shlex.quote(str(Path(sys.executable).parent)),
            directory=shlex.quote(str(directory)),
            address=address,
            metrics_port=metrics_port,
            company=company,
        )
    )
    return path


def invite(narrator: Narrator, directory: Path, entry: int) -> None:
    """Say how to call the running gateway; `entry` is the index of a log entry that may be looked at."""
    narrator.chapter("It keeps running: call it yourself")
    narrator.say(
        "In another terminal, become a developer at Harbour Bank. This sets PATH, GATEWAY, COMPANY, METRICS "
        "and DEMO, and goes to the bank's folder:"
    )
    narrator.lines(f". {shlex.quote(str(directory / 'env.sh'))}")
    for title, commands in (
        ("Ask on the command line, and verify the receipt without the gateway:", COMMAND_LINE),
        ("Ask from Python:", PYTHON),
        ("Ask with grpcurl, through reflection; an unsigned statement will do for what is public:", GRPCURL),
        (
            "Be the operator: find the entries of your own requests in the log, and read the metrics:",
            OPERATOR.format(entry=entry),
        ),
    ):
        narrator.say(title)
        narrator.lines(commands)
    narrator.say("Ctrl-C stops everything.")
