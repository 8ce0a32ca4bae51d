"""Fields of log lines."""

from pi0_ttnn_ros.node.logs import log_line


def test_fields_follow_the_text_and_are_quoted_where_a_program_would_stumble():
    line = log_line(
        "the robot holds", event="stale_input", input="/cam_high/image", age=0.51234, reason='it is "old"\n'
    )
    assert line == 'the robot holds [event=stale_input input=/cam_high/image age=0.5123 reason="it is \\"old\\"\\n"]'
    assert log_line("x", empty="", word="折") == 'x [empty="" word="\\u6298"]'
