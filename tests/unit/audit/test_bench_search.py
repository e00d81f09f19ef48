"""The benchmark of reading, in small: it measures what it says, and every search finds what it should."""

from tests.bench.search import ORIGIN, PAGE, filters, run


def test_a_small_run_reports_every_figure(tmp_path):
    report = run(20_000, tmp_path, rounds=2)
    assert report["entries"] == 20_000
    assert report["build_s"] > 0
    assert report["open_s"] < 5
    assert set(report["searches"]) == set(filters(20_000))
    found = {name: figures["found"] for name, figures in report["searches"].items()}
    assert found["everything"] == found["common"] == PAGE
    assert found["rare (one pair, old)"] == found["an exchange"] == 2
    nothing = ("absent", "absent with common", "two common, never together", "negation that leaves nothing")
    assert {name: found[name] for name in nothing} == dict.fromkeys(nothing, 0)
    assert report["proof"]["verified"] == 20
    again = run(20_000, tmp_path, rounds=1)
    assert "build_s" not in again, f"the log of {ORIGIN} is kept"
