# SPDX-License-Identifier: Apache-2.0
"""Many starts one after another, and many boxes at once: nothing of them stays, in our process or on the host.

Run with VIAL_SOAK=1 only. VIAL_TEST_STARTS (default 200) and VIAL_TEST_BOXES (default 50) change their number. Memory of the whole host is
looked at where VIAL_TEST_ALONE=1 tells that nothing else runs there, as in the nested rig.
"""
import gc
import os
import pathlib

import pytest

import driver
import harness

pytestmark = pytest.mark.soak

STARTS = int(os.environ.get("VIAL_TEST_STARTS", "200"))
BOXES = int(os.environ.get("VIAL_TEST_BOXES", "50"))
FILL = 4 << 20
WARM_UP = 5  # starts after which a process has all it keeps
OURS_KIB = 1024
HOST_KIB = 64 * 1024  # in all, not for each box


def field(path, name):
    return next(int(line.split()[1]) for line in pathlib.Path(path).read_text().splitlines() if line.startswith(name))


def host_used():
    """KiB of the host's memory in use, caches left out; 0 if others use it, too."""
    if not os.environ.get("VIAL_TEST_ALONE"):
        return 0
    gc.collect()
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    return field("/proc/meminfo", "MemTotal") - field("/proc/meminfo", "MemAvailable")


def state(d):
    """Descriptors and memory of the process that has the boxes, descendants of ours, memory of the host."""
    harness.settle(lambda: len(harness.descendants()) > 1)
    pid = d.p.pid
    return (len(os.listdir(f"/proc/{pid}/fd")), field(f"/proc/{pid}/status", "VmRSS"), len(harness.descendants()), host_used())


def check(before, after):
    assert after[0] == before[0], "descriptors of the library's process"
    assert after[1] - before[1] <= OURS_KIB, "memory of the library's process"
    assert after[2] == before[2], "processes"
    assert after[3] - before[3] <= HOST_KIB, "memory of the host"


def one(d, n):
    box = d.start("memory=256M", "cpus=1")
    assert d.run(box, f"echo {n}") == f"{n}\n"
    d.call("stop", box)
    d.call("free", box)


def test_consecutive_starts(vial):
    with driver.Driver(vial) as d:
        for n in range(WARM_UP):
            one(d, n)
        before = state(d)
        for n in range(STARTS):
            one(d, n)
        check(before, state(d))


def test_boxes_at_once(vial):
    with driver.Driver(vial) as d:
        for n in range(WARM_UP):
            one(d, n)
        before = state(d)
        boxes = []
        for n in range(BOXES):
            boxes.append(d.start("memory=256M", "cpus=1"))
            d.run(boxes[n], f"echo {n} > /root/n; head -c {FILL} /dev/urandom > /dev/shm/x")
        for n, box in enumerate(boxes):
            assert d.run(box, "cat /root/n; wc -c < /dev/shm/x").split() == [str(n), str(FILL)]
        for box in boxes:
            d.call("stop", box)
            d.call("free", box)
        check(before, state(d))
