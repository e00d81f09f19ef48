from gateway.client import Subject
from gateway.demo.world import COMPANIES
from tests.simulators.invented import company
from tests.simulators.system import Form, Holding, System
from dataclasses import asdict

SYSTEM = System(consumers=("harbour-bank", "tradeplatform"), holdings=(Holding(COMPANIES, [asdict(company(n)) for n in range(20)], form=Form.DATABASE),))

def test_it(system):
    r = system.released("tradeplatform", COMPANIES, purpose="public-lookup", subjects=[Subject("uscc", company(3).uscc)])
    print(r.records, r.entry)
    e = system.refused("FIELD_ABOVE_TIER", "tradeplatform", COMPANIES, purpose="public-lookup", subjects=[Subject("uscc", company(3).uscc)], fields=["uscc", "phone"])
    print(e)
    system.assert_log_holds()
