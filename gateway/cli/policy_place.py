"""Which policies and which catalogue a command of `gateway policy` works on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.catalogue import Catalogue
from gateway.cli.failures import CommandError
from gateway.cli.settings import load_gateway_config
from gateway.policy.bundle import Bundle, load_bundle

PolicyArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", show_default=False, help="The policy directory.  [default: the configuration's]"
    ),
]
CatalogueOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        help="Dataset descriptions.  [default: DIR/datasets if there is one, else the configuration's]",
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the whole report there too, as one HTML file.")
]
OpaOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The OPA binary.  [default: `opa` on the search path, if any]"),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, max=256, metavar="NUMBER", help="Processes to use.  [default: one for each core]"),
]

DATASETS: Final = "datasets"


def policy_directory(named: Path | None, config: Path) -> Path:
    """Return the policy directory: the one named, else the configuration's."""
    directory = named or load_gateway_config(config).policy.directory
    if not directory.is_dir():
        raise CommandError(f"{directory} is no folder; name the policy's directory, with its bundle.yaml.")
    return directory


def find_catalogue(named: Path | None, policies: Sequence[Path], config: Path, bundle: Bundle) -> Catalogue:
    """Return the datasets described where `named` says, beside one of `policies`, or in the configuration."""
    beside = [place / DATASETS for place in reversed(policies) if any((place / DATASETS).glob("*.yaml"))]
    directory = named or (beside[0] if beside else load_gateway_config(config).catalogue)
    return Catalogue.read(directory, list(bundle.data["tiers"]))


def load_bundles(directories: Sequence[Path]) -> dict[str, Bundle]:
    """Return the bundles in `directories` by digest; raise `BundleError`."""
    bundles = [load_bundle(policy_directory(directory, directory)) for directory in directories]
    return {bundle.digest: bundle for bundle in bundles}


def write_new(path: Path, text: str) -> None:
    """Write `text` to the new file `path`, for its owner's eyes."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{path} exists already; name another file, or move it away.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
