"""Errors of ttnn: the cases of `device_error_cases.py`, on a mock Wormhole."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from case_process import assert_cases_pass

pytestmark = pytest.mark.skipif(find_spec("ttnn") is None, reason="ttnn is not installed")


def test_device_errors(tmp_path):
    """All cases of `device_error_cases`, in a process that may open the mock."""
    assert_cases_pass("device_error_cases.py", 3, tmp_path)
