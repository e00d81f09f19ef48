"""Resource names (AIP-122).

`members/{member}`, `members/{member}/datasets/{dataset}`, `list-sets/{name}`,
`contracts/{contract}/versions/{version}`.
"""

from __future__ import annotations

import re
from typing import Final

NAME_PATTERN: Final = r"[a-z][a-z0-9-]{0,39}"
"""One segment of a resource name: lower case, digits and hyphens, at most 40 characters."""

_MEMBER: Final = re.compile(rf"members/({NAME_PATTERN})")
_LIST_SET: Final = re.compile(rf"list-sets/({NAME_PATTERN})")
_CONTRACT: Final = re.compile(r"contracts/([a-z][a-z0-9-]{0,62})/versions/([1-9][0-9]{0,11})", re.ASCII)
_DATASET: Final = re.compile(rf"members/({NAME_PATTERN})/datasets/({NAME_PATTERN})")


def member_name(member: str) -> str:
    """Return the resource name of the member with id `member`."""
    return f"members/{member}"


def dataset_name(member: str, dataset: str) -> str:
    """Return the resource name of `dataset` held by `member`."""
    return f"members/{member}/datasets/{dataset}"


def list_set_name(list_set: str) -> str:
    """Return the resource name of the list set that policy calls `list_set`."""
    return f"list-sets/{list_set}"


def contract_name(contract: str, version: int) -> str:
    """Return the resource name of a version of the contract called `contract`."""
    return f"contracts/{contract}/versions/{version}"


def parse_contract_name(name: str) -> tuple[str, int]:
    """Return (contract, version); raise `ValueError` if `name` is not the name of a contract's version."""
    match = _CONTRACT.fullmatch(name)
    if match is None:
        raise ValueError("not of the form contracts/{contract}/versions/{version}")
    return match[1], int(match[2])


def parse_list_set_name(name: str) -> str:
    """Return the list set's name in policy; raise `ValueError` if `name` is not a list set's name."""
    match = _LIST_SET.fullmatch(name)
    if match is None:
        raise ValueError("not of the form list-sets/{list_set}")
    return match[1]


def parse_member_name(name: str) -> str:
    """Return the member id in `name`; raise `ValueError` if it is not a member's name."""
    match = _MEMBER.fullmatch(name)
    if match is None:
        raise ValueError("not of the form members/{member}")
    return match[1]


def parse_dataset_name(name: str) -> tuple[str, str]:
    """Return (member id, dataset id); raise `ValueError` if `name` is not a dataset's name."""
    match = _DATASET.fullmatch(name)
    if match is None:
        raise ValueError("not of the form members/{member}/datasets/{dataset}")
    return match[1], match[2]


def member_host(member: str) -> str:
    """Return the DNS name in a member's certificate.

    A provider is known by who it is, not by where it runs: the gateway expects this name wherever
    it connects.
    """
    return f"{member}.members.sluicegate"
