import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from gateway.clock import system_clock
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.pki.authority import CertificateAuthority
from gateway.pki.certificates import parse_peer_certificate
from gateway.pki.example_fingerprints import EXAMPLE_FINGERPRINTS
from gateway.pki.example_keys import keyring_fingerprint, refuse_example_keys
from gateway.pki.reload import ReloadingCredentials
from gateway.pseudonym.keyring import Keyring

FOLDER = Path(__file__).parents[2] / "keys_example"
SCRIPT = FOLDER / "make_keys.py"


@pytest.fixture(scope="module")
def make_keys():
    specification = spec_from_file_location("make_keys", SCRIPT)
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    target = tmp_path_factory.mktemp("deployment") / "keys"
    subprocess.run([sys.executable, SCRIPT, "--install", target], check=True)
    return target


def test_the_compiled_fingerprints_are_those_of_the_folder(make_keys):
    found = make_keys.fingerprints(FOLDER)
    assert frozenset(found.values()) == EXAMPLE_FINGERPRINTS
    assert json.loads((FOLDER / "fingerprints.json").read_text()) == found
    assert make_keys.MODULE.read_text() == make_keys.module_text(EXAMPLE_FINGERPRINTS)


def test_every_key_file_of_the_folder_has_a_fingerprint(make_keys):
    named = {name.partition("#")[0] for name in make_keys.fingerprints(FOLDER)}
    others = {"README.md", "make_keys.py", "fingerprints.json"}
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == named | others


def test_installed_keys_load(installed):
    secrets = [path for path in installed.iterdir() if path.stat().st_mode & 0o777 == 0o600]
    assert len(secrets) == 9
    CertificateAuthority.load(installed / "authority.cert.pem", installed / "authority.key.pem")
    for name in ("gateway", "log", "agency", "bank"):
        assert SigningKey.load(installed / f"{name}.signing.pem").key_id in EXAMPLE_FINGERPRINTS
    for member in ("agency", "bank"):
        peer = parse_peer_certificate((installed / f"{member}.cert.pem").read_bytes())
        assert peer.uri == f"https://gateway.example/members/{member}"
        assert peer.key_fingerprint in EXAMPLE_FINGERPRINTS
    epoch = Keyring.load(installed / "keyring.json").current(system_clock())
    assert keyring_fingerprint(epoch.key) in EXAMPLE_FINGERPRINTS


def test_installing_over_keys_is_refused(installed):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--install", installed], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be created" in done.stderr


def test_example_keys_are_refused_outside_the_demo():
    for fingerprint in EXAMPLE_FINGERPRINTS:
        with pytest.raises(ConfigError, match="gateway init"):
            refuse_example_keys(["0" * 64, fingerprint], demo=False)
        refuse_example_keys([fingerprint], demo=True)


def test_keys_of_ones_own_are_accepted():
    refuse_example_keys([SigningKey.generate().key_id, keyring_fingerprint(bytes(32))], demo=False)


def test_the_server_refuses_the_example_identity(installed):
    files = (installed / "gateway.cert.pem", installed / "gateway.key.pem", installed / "authority.cert.pem")
    with pytest.raises(ConfigError, match="example keys"):
        ReloadingCredentials(*files)
    ReloadingCredentials(*files, demo=True)


def test_the_server_refuses_clients_of_the_example_authority(installed, tmp_path):
    own = CertificateAuthority.create("own", 10)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    own.issue("server", dns=["localhost"], valid_days=5).save(cert, key)
    with pytest.raises(ConfigError, match="example keys"):
        ReloadingCredentials(cert, key, installed / "authority.cert.pem")
    own_root = tmp_path / "root.pem"
    own_root.write_bytes(own.certificate_pem)
    ReloadingCredentials(cert, key, own_root)


def test_renewed_keys_are_other_keys(make_keys, tmp_path):
    make_keys.make(tmp_path)
    renewed = make_keys.fingerprints(tmp_path)
    assert renewed.keys() == make_keys.fingerprints(FOLDER).keys()
    assert EXAMPLE_FINGERPRINTS.isdisjoint(renewed.values())
    make_keys.make(tmp_path)
    assert frozenset(renewed.values()).isdisjoint(make_keys.fingerprints(tmp_path).values())
