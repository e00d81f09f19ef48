"""The log's site: checkpoints, tiles and bundles of entries over HTTP, as c2sp.org/tlog-tiles names them.

Read-only, and without a key: whoever reads verifies what he reads. `site` answers requests, `server`
listens. It runs in a process of its own beside the gateway, so that its readers cannot slow an exchange.
"""

from gateway.tilesite.server import TileSite
from gateway.tilesite.site import Checkpoints, CommittedCheckpoints, make_site

__all__ = ["Checkpoints", "CommittedCheckpoints", "TileSite", "make_site"]
