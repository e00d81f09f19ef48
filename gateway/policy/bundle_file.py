"""A policy bundle as one file, which this gateway and an OPA server both load.

The file is a gzipped tar archive in OPA's bundle format: `data.json`, the rules, `.manifest`, and
`.signatures.json` if it was built with a key for OPA. Beside these stand the sources that a person reads:
`bundle.yaml`, `capabilities.json`, `data/*.yaml`, `cases/*.yaml`; OPA passes over them. Whoever loads the
file compiles the sources again and refuses it unless what OPA reads is exactly what comes out: both
decide by the same rules and data. The same sources give the same bytes. See docs/formats/policy-bundle.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from gateway.evidence.keys import SigningKey
from gateway.policy.bundle import Bundle, load_bundle, opa_files
from gateway.policy.errors import BundleError
from gateway.policy.golden import GoldenCase, load_cases
from gateway.policy.opa_signature import SIGNATURES_FILE, sign_files

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""A larger bundle file is refused unread; the shipped policies take a hundredth."""
MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024
MAX_FILES: Final = 5_000

_SOURCE_FILES: Final = ("bundle.yaml", "capabilities.json")
_SOURCE_FOLDERS: Final = ("data", "cases")
_OPA_DATA_NAMES: Final = frozenset({"data.json", "data.yaml", "data.yml", "policy.wasm", "plan.json"})
"""Names that OPA reads in any folder; only the one `data.json` at the top may bear one."""


@dataclass(frozen=True, slots=True)
class PackedBundle:
    """A bundle file that has been read and found consistent."""

    bundle: Bundle
    cases: tuple[GoldenCase, ...]
    """The golden cases that came with it."""
    file_digest: str
    """`sha256:<hex>` over the file's bytes."""
    content: bytes


def pack_bundle(directory: Path, opa_key: SigningKey | None = None) -> bytes:
    """Return the bundle file made of the policy in `directory`; raise `BundleError` if that is wrong.

    With `opa_key` it carries `.signatures.json`, so that `opa run --verification-key` verifies it.
    """
    bundle = load_bundle(directory)
    load_cases(bundle, directory / "cases")
    files = {**_read_sources(directory), **bundle_texts(bundle), **opa_files(bundle)}
    _verify_names(files)
    if opa_key is not None:
        files[SIGNATURES_FILE] = sign_files(files, opa_key)
    packed = _write_archive(files)
    if len(packed) > MAX_FILE_BYTES:
        raise BundleError(f"The bundle file would have more than {MAX_FILE_BYTES} bytes.")
    return packed


def unpack_bundle(content: bytes) -> PackedBundle:
    """Return what the bundle file `content` holds; raise `BundleError` unless all of it fits together.

    The sources are verified as those of a directory are. Whether anybody has signed the file is for the
    caller to ask.
    """
    files = _read_archive(content)
    files.pop(SIGNATURES_FILE, None)
    _verify_names(files)
    with tempfile.TemporaryDirectory(prefix="sluicegate-policy-") as name:
        directory = Path(name)
        for path, data in files.items():
            if _is_source(path):
                target = directory / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        bundle = load_bundle(directory)
        cases = load_cases(bundle, directory / "cases")
        sources = _read_sources(directory)
    if files != {**sources, **bundle_texts(bundle), **opa_files(bundle)}:
        raise BundleError(
            "The bundle file does not hold what its sources compile to: an OPA server would decide by other "
            "rules or data than this gateway. Build it again with `gateway policy build`."
        )
    return PackedBundle(bundle, cases, file_digest(content), content)


def open_bundle(place: Path) -> Bundle:
    """Return the bundle at `place`: a directory, or a bundle file; raise `BundleError`."""
    return load_bundle(place) if place.is_dir() else read_bundle_file(place).bundle


def read_bundle_file(path: Path) -> PackedBundle:
    """Read and unpack the bundle file at `path`; raise `BundleError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(f"The policy {path} cannot be read ({error.strerror}).") from error
    return unpack_bundle(content)


def file_digest(content: bytes) -> str:
    """Return `sha256:<hex>` over the bytes of a bundle file."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def bundle_texts(bundle: Bundle) -> dict[str, bytes]:
    """Return the rules of `bundle` as files by path, without tests."""
    return {path: text.encode() for path, text in bundle.modules.items()}


def _read_sources(directory: Path) -> dict[str, bytes]:
    paths = [directory / name for name in _SOURCE_FILES]
    for folder in _SOURCE_FOLDERS:
        paths += sorted((directory / folder).glob("*.yaml"))
    try:
        return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
    except OSError as error:
        raise BundleError(f"The policy cannot be read ({error.strerror}).") from error


def _is_source(path: str) -> bool:
    folder = path.partition("/")[0]
    return (
        path in _SOURCE_FILES
        or (folder in _SOURCE_FOLDERS and path.endswith(".yaml"))
        or (path.endswith(".rego") and folder != "sluicegate")
    )


def _verify_names(files: Mapping[str, bytes]) -> None:
    for path in files:
        parts = PurePosixPath(path).parts
        if path != "/".join(parts) or path.startswith("/") or ".." in parts or "\\" in path:
            raise BundleError("The bundle file holds a path that leads out of it, or is not plain.")
        if parts[-1] in _OPA_DATA_NAMES and path != "data.json":
            raise BundleError(f"{path} has a name that OPA would read as data; rename it.")


def _write_archive(files: Mapping[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            # A name alone: no owner, no time and no mode of whoever builds it.
            member = tarfile.TarInfo(path)
            member.size = len(files[path])
            archive.addfile(member, io.BytesIO(files[path]))
    return gzip.compress(raw.getvalue(), compresslevel=9, mtime=0)


def _read_archive(content: bytes) -> dict[str, bytes]:
    if len(content) > MAX_FILE_BYTES:
        raise BundleError(f"The bundle file has more than {MAX_FILE_BYTES} bytes.")
    files: dict[str, bytes] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unzipped:
            raw = unzipped.read(MAX_UNPACKED_BYTES + 1)
        if len(raw) > MAX_UNPACKED_BYTES:
            raise BundleError(f"The bundle file unpacks to more than {MAX_UNPACKED_BYTES} bytes.")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.name in files or len(files) >= MAX_FILES:
                    raise BundleError(
                        "The bundle file holds something else than plain files, a file twice, or too many."
                    )
                data = archive.extractfile(member)
                files[member.name] = b"" if data is None else data.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, UnicodeError) as error:
        raise BundleError(
            "This is not a bundle file (a gzipped tar archive); build one with `gateway policy build`."
        ) from error
    return files
