"""Faults of the node's process, of the policy process and of its inferences."""

from __future__ import annotations

import resource
import signal
import time
from random import Random

from lifecycle_msgs.msg import Transition

from support.chaos.episode import INFERENCE_TIMEOUT, MAX_CHUNK_AGE
from support.chaos.fault import fault
from support.chaos.stage import Stage, Steps


@fault()
def node_pauses(stage: Stage, random: Random) -> Steps:
    """The node's process stands still: SIGSTOP, a suspended machine, swapping."""
    seconds = random.choice([0.03, 0.1, 0.2, 0.3, 1.0, random.uniform(0.02, 3.0)])
    stage.note(f"node paused for {seconds:.2f} s")
    yield from stage.pause_node(seconds)


@fault()
def node_stutters(stage: Stage, random: Random) -> Steps:
    """The node's process stands still again and again."""
    pauses = [(random.uniform(0.02, 0.4), random.uniform(0.02, 0.3)) for _ in range(random.randint(3, 10))]
    stage.note(f"node paused {len(pauses)} times, for {', '.join(f'{pause:.2f}' for pause, _ in pauses)} s")
    for pause, between in pauses:
        yield from stage.pause_node(pause)
        yield between


@fault("policy")
def policy_is_killed(stage: Stage, random: Random) -> Steps:
    """The policy process is killed with SIGKILL."""
    stage.note("policy process killed")
    stage.kill_policy()
    due = stage.hold_due("the policy process was killed", time.time_ns() + _ns(MAX_CHUNK_AGE))
    # It takes longer than this to come back: half a second and the time to load.
    yield MAX_CHUNK_AGE + 0.3
    stage.release(due)


@fault("policy")
def policy_hangs(stage: Stage, random: Random) -> Steps:
    """The policy process stands still; the node restarts it after `inference_timeout`."""
    stage.note("policy process stopped")
    stage.kill_policy(signal.SIGSTOP)
    due = stage.hold_due("the policy process hangs", time.time_ns() + _ns(MAX_CHUNK_AGE))
    yield INFERENCE_TIMEOUT
    stage.release(due)


@fault("policy")
def policy_dies_without_descriptors(stage: Stage, random: Random) -> Steps:
    """The policy process dies while the node can open no file, so that it cannot be restarted at once."""
    seconds = random.uniform(0.5, 4.0)
    stage.note(f"policy process killed, and the node cannot open a file for {seconds:.2f} s")
    pid = stage.node.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, hard))
    stage.kill_policy()
    yield seconds
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@fault("policy")
def inference_fails(stage: Stage, random: Random) -> Steps:
    """Each inference raises, ends the process or returns NaN."""
    name, value = random.choice([("raises", "DRAM is on fire"), ("exits", 3), ("nan", True)])
    seconds = random.uniform(1.3, 2.5)
    stage.note(f"inference {name} for {seconds:.2f} s")
    stage.node.inject(**{name: value})
    due = stage.hold_due(f"inference {name}", time.time_ns() + _ns(MAX_CHUNK_AGE))
    yield seconds
    stage.release(due)
    stage.node.inject()


@fault("policy")
def inference_is_late(stage: Stage, random: Random) -> Steps:
    """Each inference takes longer, up to longer than a chunk is."""
    late, seconds = random.uniform(0.1, 1.5), random.uniform(1.5, 4.0)
    stage.note(f"inference {late:.2f} s late for {seconds:.2f} s")
    stage.node.inject(seconds=late)
    yield seconds
    stage.node.inject()


@fault("images policy")
def chunk_arrives_during_a_hold(stage: Stage, random: Random) -> Steps:
    """An inference under way ends while a camera is stale: its chunk may not start a motion."""
    late, camera = random.uniform(0.5, 0.75), "left_wrist_0_rgb"
    stage.note(f"inference takes {late:.2f} s, and {camera} stops meanwhile")
    stage.node.inject(seconds=late)
    yield 1.0 + random.uniform(0.0, 0.5)
    stage.robot.silent.add(camera)
    due = stage.hold_due(f"{camera} stopped during an inference", stage.robot.last_ns[camera] + _ns(0.5))
    yield 2.0
    stage.release(due)
    stage.robot.silent.discard(camera)
    stage.node.inject()


@fault()
def end_by_kill(stage: Stage, random: Random) -> Steps:
    """The node is killed with SIGKILL; its last plan ends at rest, as that of every trajectory is checked to do."""
    stage.note("node killed")
    stage.may_end = True
    stage.node.kill()
    yield 1.0


@fault()
def end_by_sigterm(stage: Stage, random: Random) -> Steps:
    """SIGTERM ends the node and its policy process, after a hold."""
    stage.note("SIGTERM to the node")
    yield from _terminate(stage)


@fault()
def end_by_sigterm_during_configure(stage: Stage, random: Random) -> Steps:
    """SIGTERM while the node loads the policy ends it soon, and the loading process with it."""
    after = random.uniform(0.1, 2.0)
    stage.note(f"deactivate, clean up, configure, which hangs, and SIGTERM {after:.2f} s later")
    yield from stage.change_state(Transition.TRANSITION_DEACTIVATE)
    yield from stage.change_state(Transition.TRANSITION_CLEANUP)
    stage.node.inject(load_hangs=True)
    configure = stage.change_state(Transition.TRANSITION_CONFIGURE)
    yield next(configure)
    next(configure)  # the request is on its way
    yield after
    yield from _terminate(stage)


def _terminate(stage: Stage) -> Steps:
    policies = stage.policies()
    stage.may_end = True
    due = stage.hold_due("SIGTERM", time.time_ns())
    stage.node.process.send_signal(signal.SIGTERM)
    yield lambda: stage.node.process.poll() is not None, "end of the node after SIGTERM"
    yield 0.3
    stage.release(due)
    yield lambda: not any(_alive(pid) for pid in policies), "end of the policy process after the node's"


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
