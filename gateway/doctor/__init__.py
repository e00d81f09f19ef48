"""Looking for what was changed behind the gateway's back, and for what will soon need somebody."""

from gateway.doctor.examination import examine_deployment
from gateway.doctor.finding import Finding, State

__all__ = ["Finding", "State", "examine_deployment"]
