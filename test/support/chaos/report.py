"""What a run of chaos ends with."""

from __future__ import annotations

import time

import numpy as np

from support.chaos.stage import Journal


def report(journal: Journal, seed: int, machine: str) -> str:
    """Return the numbers of a run as text."""
    seen, minutes = journal.seen, (time.time() - journal.start) / 60.0
    lines = [
        f"chaos: seed {seed}, {minutes:.1f} min, {machine}",
        f"  faults            {sum(journal.faults.values())}",
        *(f"    {count:5} {name}" for name, count in sorted(journal.faults.items())),
        f"  holds due         {journal.holds}",
        f"  commands judged   {seen.commands}, {seen.moving} of them moving; time in motion "
        f"{seen.in_motion_ns * 1e-9 / 60:.1f} min",
        f"  worst speed       {seen.speed:.3f} rad/s, acceleration {seen.acceleration:.3f} rad/s^2",
        f"  worst step        {seen.position_step:.4f} rad between position commands, {seen.step:.6f} rad where a plan "
        f"replaces another, {seen.start:.4f} rad between a motion's start and the arm",
        f"  late commands     {seen.late}",
        f"  node's memory     {journal.memory:.0f} MiB at most",
    ]
    if journal.stops_ms:
        raw, judged = np.array(journal.stops_ms).T
        for label, values in (("as it was", raw), ("without the machine's lateness", judged)):
            p50, p99 = np.percentile(values, [50, 99])
            lines.append(
                f"  ~/stop answered   {label}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {values.max():.1f} ms "
                f"({len(values)} calls)"
            )
    return "\n".join(lines)
