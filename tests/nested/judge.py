# SPDX-License-Identifier: Apache-2.0
"""Counting the results of the nested rig, by its own rules: nothing missing, no skip that is not listed, no pass without KVM."""
import fnmatch
import os
import pathlib
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
EXITS_MIN = 100  # a box that started has made more


def globs(name):
    """Lines "GLOB: reason" of a file beside this one."""
    lines = (HERE / name).read_text().splitlines()
    return [line.split(": ")[0] for line in lines if line.strip() and not line.startswith("#")]


def listed(test_id, patterns):
    return any(fnmatch.fnmatchcase(test_id, p) for p in patterns)


class Judge:
    """Takes results as they come and counts them."""

    def __init__(self, ids):
        self.missing = set(ids)
        self.total = len(ids)
        self.passed, self.failed, self.skipped = [], [], []
        self.skips, self.no_box = globs("skips.txt"), globs("no-box.txt")
        self.lock = threading.Lock()
        self.exits, self.vmms, self.started = 0, 0, time.monotonic()

    def verdict(self, r):
        """Outcome of a result after the rig's own rules, and a word about it."""
        exits = sum(r["exits"].values())
        if r["outcome"] == "skipped" and not listed(r["id"], self.skips):
            return "failed", "skipped, and skips.txt does not list it: " + r["why"]
        if r["outcome"] == "passed" and exits < EXITS_MIN and not listed(r["id"], self.no_box):
            return "failed", f"passed with {exits} VM exits: KVM was not used (no-box.txt does not list it)"
        return r["outcome"], r["why"]

    def test(self, r):
        with self.lock:
            if r["id"] not in self.missing:
                return
            self.missing.discard(r["id"])
            outcome, why = self.verdict(r)
            getattr(self, outcome).append(r["id"])
            self.exits += sum(r["exits"].values())
            self.vmms += len(r["exits"])
            done = self.total - len(self.missing)
            shown = ", ".join(f"pid {pid}: {n}" for pid, n in list(r["exits"].items())[:4])
            print(f"{outcome:7} {r['id']}  {r['seconds']} s  VM exits {{{shown}}}  [{done}/{self.total}]", flush=True)
            if outcome != "passed":
                print("        " + why.strip().replace("\n", "\n        "), flush=True)

    def end(self):
        for test_id in sorted(self.missing):
            self.failed.append(test_id)
            print(f"failed  {test_id}  missing: the rig did not report it")
        cpu = os.times().children_user + os.times().children_system
        print(f"kvm: {self.vmms} virtual machine monitors made {self.exits} VM exits; {time.monotonic() - self.started:.0f} s, "
              f"{cpu:.0f} s of CPU")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped")
        return 1 if self.failed or not self.passed else 0
