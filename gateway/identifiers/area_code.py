"""Area codes (GB/T 2260): six digits for province, city and county."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from gateway.identifiers.errors import Problem
from gateway.identifiers.kind import IdentifierKind
from gateway.identifiers.parts import Part, is_province

AREA_CODE: Final = IdentifierKind(
    name="area-code",
    title="area code",
    alphabets=("0123456789",) * 6,
    # Counties come, go and change their codes between editions; provinces do not.
    parts=(Part(0, 2, Problem.AREA, "its first two digits are no province", is_province),),
    pseudonymisable=False,
)


@lru_cache(maxsize=8192)
def province_of(area_code: str) -> str:
    """Return the code of the province `area_code` lies in, such as `440000`.

    Takes any spelling that `AREA_CODE.normalise` takes; raises `IdentifierError` otherwise.
    """
    return AREA_CODE.normalise(area_code)[:2] + "0000"
