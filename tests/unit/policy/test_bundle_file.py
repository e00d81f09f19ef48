"""A policy as one file: reproducible, complete, and refused if anything in it does not fit."""

from __future__ import annotations

import gzip
import io
import tarfile
from base64 import urlsafe_b64decode

import msgspec
import pytest

from gateway.evidence.keys import SigningKey
from gateway.policy import BundleError, bundle_file, load_bundle
from gateway.policy.bundle_file import MAX_FILE_BYTES, open_bundle, pack_bundle, unpack_bundle
from gateway.policy.golden import load_cases
from gateway.policy.opa_signature import SIGNATURES_FILE, canonical_json, hash_file
from tests.unit.policy.conftest import POLICIES


@pytest.fixture(scope="module")
def content() -> bytes:
    return pack_bundle(POLICIES)


def files_of(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def archive_of(files: dict[str, bytes]) -> bytes:
    return bundle_file._write_archive(files)


def test_the_same_policy_gives_the_same_bytes(content, bundle_copy):
    assert pack_bundle(bundle_copy) == content
    key = SigningKey.generate()
    assert pack_bundle(bundle_copy, key) == pack_bundle(POLICIES, key)


def test_it_holds_the_bundle_and_its_cases(content, bundle):
    packed = unpack_bundle(content)
    assert packed.bundle.digest == bundle.digest
    assert packed.bundle.data == bundle.data
    assert packed.cases == load_cases(bundle, POLICIES / "cases")


def test_the_gateway_loads_a_file_as_well_as_a_folder(content, tmp_path, bundle):
    path = tmp_path / "policy.tar.gz"
    path.write_bytes(content)
    assert open_bundle(path).digest == open_bundle(POLICIES).digest == bundle.digest
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(tmp_path / "nothing.tar.gz")


def test_opa_finds_what_it_needs_and_no_more_data(content, bundle):
    files = files_of(content)
    manifest = msgspec.json.decode(files[".manifest"])
    assert manifest == {"revision": bundle.digest, "rego_version": 1, "roots": [""]}
    assert msgspec.json.decode(files["data.json"]) == bundle.data
    assert not any(name.endswith("_test.rego") for name in files)


@pytest.mark.parametrize("name", ["data.json", ".manifest", "exchange/decision/decision.rego"])
def test_what_opa_reads_must_be_what_the_sources_compile_to(name, content):
    files = files_of(content)
    altered = files[name].replace(b"limited", b"public").replace(b'"revision"', b'"Revision"')
    files[name] = altered if altered != files[name] else files[name] + b"\n"
    with pytest.raises(BundleError):
        unpack_bundle(archive_of(files))
    unpack_bundle(archive_of(files_of(content)))  # the control


@pytest.mark.parametrize(
    "extra",
    ["more.rego", "data/data.yaml", "sub/data.json", "sluicegate/more.rego", "README", "cases/data.json"],
)
def test_nothing_else_may_lie_in_it(extra, content):
    text = b"package more\n\nallow := true\n" if extra.endswith(".rego") else b"{}"
    with pytest.raises(BundleError):
        unpack_bundle(archive_of({**files_of(content), extra: text}))


def raw_archive(*members: tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"\0" * member.size))
    return gzip.compress(raw.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"no archive",
        gzip.compress(b"no archive" * 1000),
        gzip.compress(b"cut off" * 1000)[:-20],
        gzip.compress(b"\0" * (bundle_file.MAX_UNPACKED_BYTES + 1)),
        b"\0" * (MAX_FILE_BYTES + 1),
        raw_archive(member("../outside.yaml")),
        raw_archive(member("/etc/outside.yaml")),
        raw_archive(member("data/../../outside.yaml")),
        raw_archive(member("data//twice.yaml")),
        raw_archive(member("link", tarfile.SYMTYPE)),
        raw_archive(member("folder", tarfile.DIRTYPE)),
        raw_archive(member("a.yaml"), member("a.yaml")),
        raw_archive(*(member(f"data/{number}.yaml") for number in range(bundle_file.MAX_FILES + 1))),
    ],
    ids=["empty", "text", "no tar", "cut", "bomb", "huge", "outside", "absolute", "hidden", "unplain", "link",
         "folder", "twice", "many"],
)  # fmt: skip
def test_a_hostile_file_is_refused(hostile):
    with pytest.raises(BundleError):
        unpack_bundle(hostile)


def test_a_policy_without_cases_makes_no_file(bundle_copy):
    (bundle_copy / "cases" / "world.yaml").unlink()
    load_bundle(bundle_copy)
    with pytest.raises(BundleError):
        pack_bundle(bundle_copy)


def test_names_that_opa_reads_as_data_are_refused(bundle_copy):
    (bundle_copy / "cases" / "data.yaml").write_text((bundle_copy / "cases" / "public.yaml").read_text())
    with pytest.raises(BundleError, match=r"cases/data\.yaml"):
        pack_bundle(bundle_copy)


def test_the_signature_for_opa_lists_every_file(content):
    signed = files_of(pack_bundle(POLICIES, SigningKey.generate()))
    [token] = msgspec.json.decode(signed.pop(SIGNATURES_FILE))["signatures"]
    payload = token.split(".")[1]
    listed = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["files"]
    assert {each["name"]: each["hash"] for each in listed} == {
        name: hash_file(name, data) for name, data in files_of(content).items()
    }
    assert unpack_bundle(pack_bundle(POLICIES, SigningKey.generate())).bundle.digest


def test_line_separators_are_escaped_as_opa_hashes_them():
    assert canonical_json({"b": "\u2028", "a": "<é>"}) == '{"a":"<é>","b":"\\u2028"}'.encode()
