"""How many synthetic images every class gets."""

import pytest

from synaug.config import Balance
from synaug.plan.targets import wanted_counts

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


@pytest.mark.parametrize(
    ("balance", "wanted"),
    [
        ({}, [0, 20, 38, 47]),
        ({"strategy": "fixed", "target": 40}, [0, 10, 28, 37]),
        ({"strategy": "fixed", "target": 60}, [10, 30, 48, 57]),
        ({"max_synthetic_per_real": 2.0}, [0, 20, 24, 6]),
        ({"max_synthetic_per_real": 0.5}, [0, 15, 6, 1]),
        ({"strategy": "fixed", "target": 60, "max_synthetic_per_real": 1.0}, [10, 30, 12, 3]),
        ({"strategy": "fixed", "target": 1}, [0, 0, 0, 0]),
    ],
)
def test_images_per_class(cells, make, balance, wanted):
    table = cells(COUNTS)
    assert wanted_counts(table[table["kind"] == "cell"], Balance(**balance)).tolist() == wanted
    planned = make(balance=balance)["label_name"].value_counts()
    assert [planned.get(name, 0) for name in COUNTS] == wanted
