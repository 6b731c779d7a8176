# SPDX-License-Identifier: Apache-2.0
"""Dealing tests to machines: what is slow first, and whole, so that all end together and nothing expensive is made twice."""
import threading

# Fixtures that take long to make and live as long as a module or a class: their tests stay in one machine, one after another.
# The slowest first. The image of debian_python is imported once by each machine, hence all its tests are dealt as one.
TOGETHER = ("debian_python", "user_home", "saved")


def units(tests):
    """Lists of ids that must stay together, in the order in which they are to be dealt. TESTS: [(id, names of its fixtures)]."""
    groups, single = {}, []
    for test_id, fixtures in tests:
        name = next((f for f in TOGETHER if f in fixtures), None)
        if name:
            groups.setdefault(name, []).append(test_id)
        else:
            single.append([test_id])
    return [groups[f] for f in TOGETHER if f in groups] + single


class Dealer:
    """Gives each machine that asks the next unit."""

    def __init__(self, tests):
        self.left = units(tests)
        self.lock = threading.Lock()

    def more(self):
        with self.lock:
            return self.left.pop(0) if self.left else []
