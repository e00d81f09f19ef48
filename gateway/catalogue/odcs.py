"""Dataset descriptions in the Open Data Contract Standard 3.1 (YAML).

What drives enforcement stands where the standard has a place for it (`classification` is the
field's sharing tier, `logicalType` its type, `required`); the rest are documented custom
properties: on the contract `provider`, `owner`, `tier`, `datasetClass`, `catalogueCitation`,
`retention` (`FIELD:YEARS`), `freshness` (`FIELD:DAYS`), `cohort` (records); on a property
`identifierKind`, `lookup`, `generalise`, `mask` (`first:N,last:M`), `link`, `restriction`. Custom
properties we do not know are refused: a misspelt one must not silently weaken a description.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from open_data_contract_standard.model import (
    CustomProperty,
    OpenDataContractStandard,
    SchemaProperty,
)
from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.identifiers import KINDS
from gateway.model import (
    NAME_PATTERN,
    Dataset,
    Field,
    FieldType,
    Freshness,
    Mask,
    Retention,
    dataset_name,
)
from gateway.model.duties import MAX_COHORT

API_VERSIONS: Final = ("v3.1.0", "v3.2.0")

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, and the fast one of the two where it is there: a catalogue has hundreds of files."""

_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SEGMENT: Final = re.compile(NAME_PATTERN)
_GENERALISATIONS: Final = re.compile(r"year|month|decade|province|band:[1-9][0-9]{0,15}")
_MASK: Final = re.compile(r"first:(?P<first>[0-9]{1,2}),last:(?P<last>[0-9]{1,2})", re.ASCII)
_DATED: Final = re.compile(r"(?P<field>[a-z][a-z0-9_]{0,62}):(?P<count>[1-9][0-9]{0,3})", re.ASCII)
_CONTRACT_PROPERTIES: Final = frozenset({
    "provider", "owner", "tier", "datasetClass", "catalogueCitation", "retention", "freshness", "cohort",
})  # fmt: skip
_FIELD_PROPERTIES: Final = frozenset(
    {"identifierKind", "lookup", "generalise", "mask", "link", "restriction"}
)
_GENERALISABLE: Final = {
    "year": (FieldType.DATE,),
    "month": (FieldType.DATE,),
    "decade": (FieldType.DATE,),
    "province": (FieldType.STRING,),
    "band": (FieldType.INTEGER, FieldType.NUMBER),
}
_DATASET_CLASSES: Final = frozenset({"record", "list", "score"})


class CatalogueError(ConfigError):
    """A dataset description is wrong; the message names the file and the place."""


def read_dataset(path: Path, tiers: Sequence[str]) -> Dataset:
    """Read one description; raise `CatalogueError` if it is not one we can enforce.

    `tiers` are the sharing tiers that policy knows.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - safe, either
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogueError(f"{path}: cannot be read as YAML ({type(error).__name__}).") from error
    return describe_dataset(content, str(path), tiers)


def describe_dataset(content: Any, where: str, tiers: Sequence[str]) -> Dataset:
    """Return the dataset that `content` describes, the JSON value of an ODCS data contract.

    `where` is what messages call it. Raises `CatalogueError` as `read_dataset` does.
    """
    path = Path(where)
    try:
        contract = OpenDataContractStandard(**content)
    except TypeError as error:
        raise CatalogueError(f"{path}: cannot be read as YAML ({type(error).__name__}).") from error
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()[:5]
        )
        raise CatalogueError(f"{path}: is not ODCS 3.1: {places}") from error
    return _dataset(contract, path, tiers)


def _dataset(contract: OpenDataContractStandard, path: Path, tiers: Sequence[str]) -> Dataset:
    if contract.kind != "DataContract" or contract.apiVersion not in API_VERSIONS:
        raise CatalogueError(
            f"{path}: kind must be DataContract and apiVersion one of {', '.join(API_VERSIONS)}."
        )
    custom = _custom(
        contract.customProperties,
        _CONTRACT_PROPERTIES,
        path,
        "the contract",
    )
    provider = _text(custom, "provider", path)
    if not _SEGMENT.fullmatch(provider) or not _SEGMENT.fullmatch(contract.id or ""):
        raise CatalogueError(
            f"{path}: id and customProperties.provider are lower case letters, digits and hyphens, "
            "at most 40."
        )
    owner = str(custom.get("owner", provider))
    if not _SEGMENT.fullmatch(owner):
        raise CatalogueError(f"{path}: customProperties.owner is the id of a member.")
    tier = _text(custom, "tier", path)
    if tier not in tiers:
        raise CatalogueError(f"{path}: tier must be one of {', '.join(tiers)}.")
    dataset_class = str(custom.get("datasetClass", "record"))
    if dataset_class not in _DATASET_CLASSES:
        raise CatalogueError(f"{path}: datasetClass must be one of {', '.join(sorted(_DATASET_CLASSES))}.")
    objects = contract.schema_ or []
    if len(objects) != 1 or not objects[0].properties:
        raise CatalogueError(f"{path}: schema must hold exactly one object with properties.")
    fields = [_field(item, path, tiers) for item in objects[0].properties]
    if len({field.name for field in fields}) != len(fields):
        raise CatalogueError(f"{path}: a property name stands twice.")
    retention = _dated(custom, "retention", "YEARS", fields, path)
    freshness = _dated(custom, "freshness", "DAYS", fields, path)
    cohort = custom.get("cohort", 0)
    if not isinstance(cohort, int) or isinstance(cohort, bool) or not 0 <= cohort <= MAX_COHORT:
        raise CatalogueError(f"{path}: cohort must be a whole number up to {MAX_COHORT}.")
    restrictions = [field for field in fields if field.restriction]
    if len(restrictions) > 1 or (restrictions and dataset_class != "list"):
        raise CatalogueError(f"{path}: restriction is for one property of a dataset of class list.")
    purpose = contract.description.purpose if contract.description else None
    return Dataset(
        name=dataset_name(provider, contract.id or ""),
        provider=provider,
        owner=owner,
        title=contract.name or contract.id or "",
        description=(purpose or "").strip(),
        version=contract.version or "",
        tier=tier,
        dataset_class=dataset_class,
        citation=str(custom.get("catalogueCitation", "")),
        retention=None if retention is None else Retention(field=retention[0], years=retention[1]),
        freshness=None if freshness is None else Freshness(field=freshness[0], days=freshness[1]),
        cohort=cohort,
        fields={field.name: field for field in fields},
    )


def _field(item: SchemaProperty, path: Path, tiers: Sequence[str]) -> Field:
    name = item.name or ""
    if not _FIELD_NAME.fullmatch(name):
        raise CatalogueError(f"{path}: property names are lower case letters, digits and _, at most 63.")
    where = f"{path}: property {name}"
    tier = item.classification
    if tier is None or tier not in tiers:
        raise CatalogueError(f"{where}: classification must be one of {', '.join(tiers)}.")
    try:
        field_type = FieldType(item.logicalType or "string")
    except ValueError as error:
        raise CatalogueError(f"{where}: logicalType must be one of {', '.join(FieldType)}.") from error
    custom = _custom(item.customProperties, _FIELD_PROPERTIES, path, f"property {name}")
    identifier = custom.get("identifierKind")
    if identifier is not None and (identifier not in KINDS or field_type is not FieldType.STRING):
        raise CatalogueError(f"{where}: identifierKind must be one of {', '.join(KINDS)}, on a string.")
    generalise = custom.get("generalise")
    if generalise is not None:
        _verify_generalisation(str(generalise), field_type, identifier, where)
    mask = None if custom.get("mask") is None else _mask(str(custom["mask"]), field_type, where)
    link = custom.get("link")
    if link is not None and not _SEGMENT.fullmatch(str(link)):
        raise CatalogueError(f"{where}: link is a name of lower case letters, digits and hyphens.")
    lookup = custom.get("lookup", False)
    if not isinstance(lookup, bool):
        raise CatalogueError(f"{where}: lookup must be true or false.")
    return Field(
        name=name,
        type=field_type,
        tier=tier,
        title=item.businessName or "",
        required=bool(item.required),
        identifier=identifier,
        lookup=lookup,
        restriction=_restriction(custom, field_type, identifier, where),
        generalise=generalise,
        mask=mask,
        link=link,
    )


def _verify_generalisation(method: str, field_type: FieldType, identifier: str | None, where: str) -> None:
    if not _GENERALISATIONS.fullmatch(method):
        raise CatalogueError(
            f"{where}: generalise must be year, month, decade, province or band:<whole number>."
        )
    wanted = _GENERALISABLE[method.partition(":")[0]]
    if field_type not in wanted:
        raise CatalogueError(f"{where}: generalise {method} needs logicalType {' or '.join(wanted)}.")
    if method == "province" and identifier != "area-code":
        raise CatalogueError(f"{where}: generalise province needs identifierKind area-code.")


def _mask(text: str, field_type: FieldType, where: str) -> Mask:
    parts = _MASK.fullmatch(text)
    if parts is None or field_type is not FieldType.STRING:
        raise CatalogueError(f"{where}: mask must be first:<number>,last:<number>, on a string.")
    return Mask(keep_first=int(parts["first"]), keep_last=int(parts["last"]))


def _dated(
    custom: dict[str, Any], name: str, unit: str, fields: Sequence[Field], path: Path
) -> tuple[str, int] | None:
    value = custom.get(name)
    if value is None:
        return None
    parts = _DATED.fullmatch(str(value))
    dates = {field.name for field in fields if field.type is FieldType.DATE}
    if parts is None or parts["field"] not in dates:
        raise CatalogueError(f"{path}: {name} must be FIELD:{unit}, with a field of logicalType date.")
    return parts["field"], int(parts["count"])


def _restriction(custom: dict[str, Any], field_type: FieldType, identifier: str | None, where: str) -> bool:
    restriction = custom.get("restriction", False)
    if not isinstance(restriction, bool):
        raise CatalogueError(f"{where}: restriction must be true or false.")
    if restriction and (field_type is not FieldType.STRING or identifier is not None):
        raise CatalogueError(f"{where}: restriction needs a string that is no identifier.")
    return restriction


def _custom(
    properties: list[CustomProperty] | None, known: frozenset[str], path: Path, where: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in properties or []:
        if item.property not in known:
            raise CatalogueError(
                f"{path}: {where} has an unknown custom property; known: {', '.join(sorted(known))}."
            )
        if item.property in found:
            raise CatalogueError(f"{path}: {where} has the custom property {item.property} twice.")
        found[item.property] = item.value
    return found


def _text(custom: dict[str, Any], name: str, path: Path) -> str:
    value = custom.get(name)
    if not isinstance(value, str) or not value:
        raise CatalogueError(f"{path}: customProperties.{name} is missing.")
    return value
