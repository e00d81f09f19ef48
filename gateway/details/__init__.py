"""Details of entries, kept beside the log: sealed to custodians, searchable blindly, and erasable.

The log says what happened and commits to the rest; the rest (whom it concerned, who asked, the signed
query) is kept here, for as long as it may be kept.
"""

from gateway.details.blind_index import BlindIndex
from gateway.details.content import Details, SubjectDetails
from gateway.details.custodians import Custodian, CustodianCard, Custodians
from gateway.details.errors import (
    ApprovalError,
    DetailsAlteredError,
    DetailsErasedError,
    DetailsMissingError,
    DetailsUnavailableError,
)
from gateway.details.keeper import DetailsKeeper, KeeperHooks, SealedDetails, Term
from gateway.details.sqlite import SqliteDetailsStore
from gateway.details.store import DetailsStore
from gateway.details.stores import open_details_store

__all__ = [
    "ApprovalError",
    "BlindIndex",
    "Custodian",
    "CustodianCard",
    "Custodians",
    "Details",
    "DetailsAlteredError",
    "DetailsErasedError",
    "DetailsKeeper",
    "DetailsMissingError",
    "DetailsStore",
    "DetailsUnavailableError",
    "KeeperHooks",
    "SealedDetails",
    "SqliteDetailsStore",
    "SubjectDetails",
    "Term",
    "open_details_store",
]
