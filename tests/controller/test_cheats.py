"""A net that does less than it proves has no valid row, whatever it does it by."""

import pytest
from cheats.table import CHEATS, outcomes

pytestmark = pytest.mark.process

#: Some of each kind, quick without a framework; `make cheats` has them all in one.
FEW = {
    "stored": "ms on images it has not seen, and ",
    "half": "disagrees with the float64 reference",
    "stale": "two passes in a row computed the same batch",
    "slow_clock": "its clock is not the machine's",
}


def test_a_cheat_of_each_kind_has_no_valid_row(tmp_path):
    for name, outcome in outcomes(list(FEW), "null", tmp_path).items():
        assert outcome.word == "caught", (name, outcome)
        assert FEW[name] in outcome.reason


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("framework", ["null", "torch", "tensorflow", "jax"])
def test_every_cheat_is_caught_or_harmless(framework, tmp_path):
    assert len(CHEATS) == 24
    known = outcomes(CHEATS, framework, tmp_path)
    missed = {name: outcome for name, outcome in known.items() if outcome.word == "missed"}
    assert not missed
    assert sum(outcome.word == "caught" for outcome in known.values()) >= 22
