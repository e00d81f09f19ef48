from __future__ import annotations

from itertools import pairwise, product

from gateway.model import Treatment
from gateway.policy import TREATMENT_ORDER, strictest


def test_every_treatment_has_its_place():
    assert set(TREATMENT_ORDER) == set(Treatment)
    assert len(TREATMENT_ORDER) == len(Treatment)
    assert (TREATMENT_ORDER[0], TREATMENT_ORDER[-1]) == (Treatment.RELEASE, Treatment.DROP)


def test_the_strictest_is_a_lattice():
    for a, b, c in product(Treatment, repeat=3):
        assert strictest(a, b) is strictest(b, a)
        assert strictest(a, strictest(b, c)) is strictest(strictest(a, b), c)
        assert strictest(a, a) is a
        assert strictest(a, Treatment.DROP) is Treatment.DROP
        assert strictest(a, Treatment.RELEASE) is a


def test_the_later_in_the_order_wins():
    for earlier, later in pairwise(TREATMENT_ORDER):
        assert strictest(earlier, later) is later
