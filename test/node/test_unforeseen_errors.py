"""What the node logs of errors that nobody foresaw: their tracebacks."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.lifecycle import TransitionCallbackReturn

from pi0_ttnn_ros.node import policy_node


@pytest.fixture
def node(ros):
    node = policy_node.PolicyNode(threading.Event())
    yield node
    node.destroy_node()


def fail(*_):
    raise KeyError("injected")


def test_configure(node, monkeypatch, capfd):
    """Configure fails, and the log says where."""
    monkeypatch.setattr(policy_node, "PolicySession", fail)
    monkeypatch.setattr(policy_node.NodeParameters, "read", lambda _: SimpleNamespace(checkpoint="", backend=""))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    log = capfd.readouterr().err
    assert "cannot configure [reason=" in log and "Traceback" in log and "in fail" in log


def test_configure_with_a_foreseen_error(node, capfd):
    """An error with a message for the user has no traceback."""
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    log = capfd.readouterr().err
    assert "cannot configure [reason=" in log and "checkpoint is not set" in log and "Traceback" not in log


def test_another_transition(node, monkeypatch, capfd):
    """A transition that raises ends in an error, and the log says where."""
    monkeypatch.setattr(node, "release", fail)
    assert node.trigger_shutdown() == TransitionCallbackReturn.ERROR
    log = capfd.readouterr().err
    assert "transition failed [event=transition_failed callback=on_shutdown]" in log and "in fail" in log
