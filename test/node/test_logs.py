"""Fields of log lines."""

from pi0_ttnn_ros.rclpy_utils.logs import log_line


def test_log_line_fields():
    """Fields follow the text, quoted where they are not plain words."""
    line = log_line("holding", event="stale_input", input="/cam_high/image", age=0.51234, reason='it is "old"\n')
    assert line == 'holding [event=stale_input input=/cam_high/image age=0.5123 reason="it is \\"old\\"\\n"]'
    assert log_line("x", empty="", word="折") == 'x [empty="" word="\\u6298"]'
