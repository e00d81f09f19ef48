"""Reading the log is itself logged: what the entry of a reading says.

An entry of kind `audit.read` names who read (`members/{member}` over the network, `officers/{user}`
for a user of the gateway's own host), by which command or call, with which filter, and how many
entries were shown. It is committed before anything is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.audit.filter import EVERYTHING, Filter, Has, disclosed_filter
from gateway.audit.store import AuditReader

ENTRIES: Final = "entries"
"""The resource that is read: the collection of all entries."""


def reading_detail(
    reader: AuditReader, by: str, through: str, wanted: Filter = EVERYTHING, *, count: int | None = None
) -> Mapping[str, str]:
    """Return the `detail` of the entry of a reading.

    `count` is None while it is not known, as when a tail begins. Values in the filter that no entry
    of the log has are not disclosed: anybody may type anything. Nor is one that is not found at once.
    """

    def is_known(has: Has) -> bool:
        # Not `find`, which may read all of a log that an earlier release has summed up.
        return bool(reader.page(has, 1).entries)

    detail = {"by": by, "through": through, "filter": disclosed_filter(wanted, is_known)}
    if count is not None:
        detail["entries"] = str(count)
    return {name: value for name, value in detail.items() if value}
