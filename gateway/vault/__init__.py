"""The vault: records that contributors hand over under contract, kept sealed, versioned, and destroyable.

`VaultWriter` takes them in, `VaultProvider` gives them out through the same pipeline as any provider's,
`Upkeep` lets go what is due. See docs/vault.md.
"""

from gateway.vault.deployed import Vault, open_vault
from gateway.vault.errors import BatchError, RecordsDestroyedError, VaultUnavailableError
from gateway.vault.layout import RecordError
from gateway.vault.provider import Holdings, VaultProvider
from gateway.vault.upkeep import ContractSource, Upkeep, ended_contracts
from gateway.vault.writer import StagedBatch, VaultWriter, Withdrawn

__all__ = [
    "BatchError",
    "ContractSource",
    "Holdings",
    "RecordError",
    "RecordsDestroyedError",
    "StagedBatch",
    "Upkeep",
    "Vault",
    "VaultProvider",
    "VaultUnavailableError",
    "VaultWriter",
    "Withdrawn",
    "ended_contracts",
    "open_vault",
]
