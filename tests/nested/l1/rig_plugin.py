# SPDX-License-Identifier: Apache-2.0
"""pytest plugin of the nested rig, in L1: runs the tests that the host deals to it, and reports each at its end as a JSON line to $RIG_RESULTS.

The same channel is asked for tests: a line {"event": "more"} is answered by a line with a list of ids, which is empty when there are no more.
A result's line tells the test's id and outcome, its seconds, and {pid: VM exits} of every $RIG_VMM (vial-vmm) that ran meanwhile, so that the host can see
that KVM was used. Exits are counted by the kernel's kvm_exit tracepoint by thread; its sched_process_exec and task_newtask
tell which threads belong to which process.
"""
import json
import os
import pathlib
import re

import pytest

TRACING = pathlib.Path("/sys/kernel/tracing")
HIST = "hist:keys=common_pid.execname:size=65536"
INSTANCE = TRACING / "instances/rig"
CLONE_THREAD = 0x10000
TEXT_MAX = 6000  # of a failure
LOG_MAX = 3000  # of what boxes logged before it
VMM = os.environ.get("RIG_VMM", "vial-vmm")
COMM = VMM[:15]  # what the kernel calls its threads


class Exits:
    """VM exits of each virtual machine monitor since the last take()."""

    def __init__(self):
        INSTANCE.mkdir(exist_ok=True)
        (INSTANCE / "buffer_size_kb").write_text("4096")
        (INSTANCE / "events/task/task_newtask/filter").write_text(f"clone_flags & {CLONE_THREAD}")
        for event in ("sched/sched_process_exec", "task/task_newtask"):
            (INSTANCE / "events" / event / "enable").write_text("1")
        self.vmms = set()
        self.leader = {}
        self.take()

    def follow(self):
        """Learn new processes of the monitor and their threads."""
        for line in (INSTANCE / "trace").read_text().splitlines():
            if m := re.search(r" sched_process_exec: filename=(\S+) pid=(\d+)", line):
                if m[1].endswith("/" + VMM):
                    self.vmms.add(int(m[2]))
            elif m := re.match(r"\s*.*-(\d+)\s+\[\d+\].* task_newtask: pid=(\d+) ", line):
                parent = int(m[1])
                self.leader[int(m[2])] = self.leader.get(parent, parent)
        (INSTANCE / "trace").write_text("")

    def take(self):
        self.follow()
        trigger = TRACING / "events/kvm/kvm_exit"
        text = (trigger / "hist").read_text()
        with open(trigger / "trigger", "a") as f:
            f.write(HIST + ":clear")
        found = {}
        for m in re.finditer(r"\{ common_pid: (.*?)\s*\[\s*(\d+)\] \} hitcount:\s+(\d+)", text):
            pid = self.leader.get(int(m[2]), int(m[2]))
            if pid in self.vmms or m[1] == COMM:
                found[pid] = found.get(pid, 0) + int(m[3])
        return found


def take_log():
    """End of what the boxes of lib-driver logged since the last time."""
    log = pathlib.Path(os.environ.get("DRIVER_LOG", "/nonexistent"))
    if not log.exists():
        return ""
    text = log.read_bytes()[-LOG_MAX:].decode(errors="replace")
    os.truncate(log, 0)
    return text and "\nlog of the boxes:\n" + text


class Reporter:
    def __init__(self):
        self.fd = os.open(os.environ["RIG_RESULTS"], os.O_RDWR)
        self.exits = Exits()
        self.say(event="start")

    def say(self, **m):
        data = json.dumps(m).encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data):]

    def more(self):
        self.say(event="more")
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.fd, 65536)
        return json.loads(line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        """Instead of pytest's own loop. One id ahead is known always: fixtures that the next test shares stay."""
        items = {i.nodeid: i for i in session.items}
        queue, dry = [], False
        while not dry or queue:
            while not dry and len(queue) < 2:
                ids = self.more()
                dry = not ids
                queue += [items[i] for i in ids if i in items]
            if queue:
                item = queue.pop(0)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=queue[0] if queue else None)
        return True

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.reports = []
        self.exits.take()
        yield
        bad = [r for r in self.reports if r.outcome != "passed"]
        worst = next((r for r in bad if r.outcome == "failed"), bad[0] if bad else None)
        why, log = "", take_log()
        if worst is not None:
            why = str(worst.longrepr[2] if isinstance(worst.longrepr, tuple) else worst.longreprtext)[-TEXT_MAX:] + log
        self.say(event="test", id=item.nodeid, outcome=worst.outcome if worst else "passed", why=why,
                 seconds=round(sum(r.duration for r in self.reports), 2), exits=self.exits.take())

    def pytest_runtest_logreport(self, report):
        self.reports.append(report)

    def pytest_sessionfinish(self, exitstatus):
        self.say(event="end", code=int(exitstatus))


def pytest_configure(config):
    if "RIG_RESULTS" in os.environ:
        config.pluginmanager.register(Reporter())
