# SPDX-License-Identifier: Apache-2.0
"""Many commands in one box."""
import pytest

import driver

# Processes of the agent beside PID 1 that are in no command's control group.
HELPERS = "for p in /proc/[1-9]*; do [ ${p#/proc/} != 1 ] && [ \"$(cat $p/cgroup)\" = 0::/ ] && [ -n \"$(tr -d '\\0' < $p/cmdline)\" ] && echo ${p#/proc/}; done; true"
ZOMBIES = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"


@pytest.mark.parametrize("sig", ["STOP", "KILL"])
def test_root_in_the_guest_stops_the_agents_helper(vial, sig):
    """Commands still start, and nothing is left of it."""
    with driver.Driver(vial) as d:
        box = d.start("memory=256M", "cpus=1")
        d.run(box, "true")
        helpers = d.run(box, HELPERS).split()
        assert len(helpers) == 1, helpers
        d.run(box, f"kill -{sig} {helpers[0]}")
        for i in range(20):
            assert d.run(box, f"echo {i}") == f"{i}\n"
        after = d.run(box, HELPERS).split()
        assert len(after) == 1 and after != helpers, (helpers, after)
        groups = int(d.run(box, "ls -d /sys/fs/cgroup/vial/*/ | wc -l"))
        assert 0 < groups < 20, f"{groups} control groups after 20 commands without a pause"
        assert d.run(box, ZOMBIES) == "0\n"


def test_descendants_of_commands_are_reaped(vial):
    """Of a hundred orphans none is left, and each command's exit code is its own."""
    with driver.Driver(vial) as d:
        box = d.start("memory=256M", "cpus=1")
        for code in (0, 3, 5):
            assert d.run(box, f"for i in $(seq 100); do (sleep 0.01 &) ; done; exit {code}", check=False)[0] == code
        assert d.run(box, f"while [ $({ZOMBIES}) != 0 ] || pidof sleep >/dev/null; do :; done; echo gone") == "gone\n"
