import pytest

from gateway.deployment import initialise
from gateway.errors import ConfigError


@pytest.mark.parametrize(
    "origin", ["Bad Origin", "audit.example.org", "https://audit.example.org/log", "audit.example.org/", ""]
)
def test_a_wrong_origin_is_refused_before_anything_is_made(tmp_path, origin):
    with pytest.raises(ConfigError, match=r"for example audit\.example\.org/log/2026"):
        initialise(tmp_path / "deployment", origin=origin)
    assert not (tmp_path / "deployment").exists()


def test_a_right_origin_is_taken(tmp_path):
    deployment = initialise(tmp_path / "deployment", origin="audit.example.org/log/2026")
    assert deployment.load().log.origin == "audit.example.org/log/2026"
