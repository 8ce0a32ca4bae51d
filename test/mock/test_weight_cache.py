"""The cache of converted weights: the cases of `weight_cache_cases.py`, on a mock Wormhole."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from case_process import assert_cases_pass

pytestmark = pytest.mark.skipif(find_spec("ttnn") is None, reason="ttnn is not installed")


def test_weight_cache(tmp_path):
    """All cases of `weight_cache_cases`, in a process that may open the mock."""
    assert_cases_pass("weight_cache_cases.py", 13, tmp_path)
