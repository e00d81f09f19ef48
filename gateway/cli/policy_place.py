"""Which policies and which catalogue a command of `gateway policy` works on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.catalogue import Catalogue
from gateway.cli.failures import CommandError
from gateway.cli.settings import load_gateway_config
from gateway.config import GatewayConfig
from gateway.deployment.policy import bundle_by_digest, bundle_in_force
from gateway.policy.bundle import Bundle
from gateway.policy.bundle_file import open_bundle

PolicyArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", show_default=False, help="The policy directory.  [default: the configuration's]"
    ),
]
BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[POLICY]", show_default=False, help="A policy directory or bundle file.  [default: in force]"
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


def find_bundle(named: Path | None, config: Path) -> Bundle:
    """Return the policy at `named`, directory or bundle file, else that in force; raise `BundleError`."""
    if named is None:
        return bundle_in_force(load_gateway_config(config))
    if not named.exists():
        raise CommandError(f"There is no policy {named}; name a policy directory or a bundle file.")
    return open_bundle(named)


def find_catalogue(
    named: Path | None, policies: Sequence[Path | None], config: Path, bundle: Bundle
) -> Catalogue:
    """Return the datasets described where `named` says, beside one of `policies`, or in the configuration."""
    places = [place / DATASETS for place in reversed(policies) if place is not None]
    beside = [place for place in places if any(place.glob("*.yaml"))]
    directory = named or (beside[0] if beside else load_gateway_config(config).catalogue)
    return Catalogue.read(directory, list(bundle.data["tiers"]))


def past_bundles(
    named: Sequence[Path] | None, deployment: GatewayConfig | None, digests: Iterable[str]
) -> dict[str, Bundle]:
    """Return by digest the bundles that decided, as far as they are at hand; raise `BundleError`.

    They are those at the places `named`, or those of `digests` that the deployment has kept.
    """
    if named is not None:
        bundles = [find_bundle(place, place) for place in named]
        return {bundle.digest: bundle for bundle in bundles}
    if deployment is None:
        return {}
    kept = {digest: bundle_by_digest(deployment, digest) for digest in set(digests)}
    return {digest: bundle for digest, bundle in kept.items() if bundle is not None}


def write_new(path: Path, text: str) -> None:
    """Write `text` to the new file `path`, for its owner's eyes."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{path} exists already; name another file, or move it away.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
