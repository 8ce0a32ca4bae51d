"""One captured inference: capture -> graph -> roofline -> report. Only `capture.py` imports ttnn."""
