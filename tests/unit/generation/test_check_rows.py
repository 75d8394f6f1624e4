"""Settings of planned images that a model cannot sample with."""

from types import SimpleNamespace

import pandas as pd
import pytest

from synaug.generation.pipelines import check_rows
from synaug.runtime.errors import UserError


def test_image_to_image_without_a_step_is_one_line():
    rows = pd.DataFrame({"steps": [20, 4], "strength": [0.2, 0.2]})
    with pytest.raises(UserError, match=r"generation\.strength: 0\.2 of 4 steps is no step; raise strength or steps"):
        check_rows(SimpleNamespace(unet=None), rows)
