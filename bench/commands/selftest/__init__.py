"""`selftest`: the harness compared with known durations, simulated data and real cases."""

from bench.commands.requests import SelftestRequest
from bench.commands.selftest import checks, real_cases


def main(request: SelftestRequest) -> int:
    run = real_cases.main if request.runs or request.aa or request.power else checks.main
    return run(request)
