#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the nested rig, by results that are made up: no machine is started."""
import contextlib
import io
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import deal  # noqa: E402
import judge  # noqa: E402

BOX = "tests/integ/test_run.py::test_exit_code[kvm-0]"
NO_BOX = "tests/integ/test_library.py::test_case[kvm-spec-errors]"
MAY_SKIP = "tests/integ/test_errors.py::test_no_qemu[kvm]"


class Rules(unittest.TestCase):
    def judge(self, ids, *results):
        """End code and last line after RESULTS: (id, outcome, exits)."""
        j = judge.Judge(ids)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            for test_id, outcome, exits in results:
                j.test({"id": test_id, "outcome": outcome, "why": "because", "exits": exits, "seconds": 1})
            code = j.end()
        return code, out.getvalue().splitlines()[-1]

    def test_pass_with_kvm(self):
        self.assertEqual(self.judge([BOX], (BOX, "passed", {"5": 4000})), (0, "1 passed, 0 failed, 0 skipped"))

    def test_pass_without_kvm_fails(self):
        self.assertEqual(self.judge([BOX], (BOX, "passed", {})), (1, "0 passed, 1 failed, 0 skipped"))
        self.assertEqual(self.judge([BOX], (BOX, "passed", {"5": 12})), (1, "0 passed, 1 failed, 0 skipped"))

    def test_some_need_no_box(self):
        self.assertEqual(self.judge([NO_BOX], (NO_BOX, "passed", {})), (0, "1 passed, 0 failed, 0 skipped"))

    def test_missing_fails(self):
        self.assertEqual(self.judge([BOX, NO_BOX], (NO_BOX, "passed", {})), (1, "1 passed, 1 failed, 0 skipped"))

    def test_skips_are_listed(self):
        ok = (NO_BOX, "passed", {})
        self.assertEqual(self.judge([NO_BOX, MAY_SKIP], ok, (MAY_SKIP, "skipped", {})), (0, "1 passed, 0 failed, 1 skipped"))
        self.assertEqual(self.judge([NO_BOX, BOX], ok, (BOX, "skipped", {})), (1, "1 passed, 1 failed, 0 skipped"))

    def test_failure_and_nothing_passed(self):
        self.assertEqual(self.judge([BOX], (BOX, "failed", {"5": 4000}))[0], 1)
        self.assertEqual(self.judge([MAY_SKIP], (MAY_SKIP, "skipped", {}))[0], 1)

    def test_other_ids_do_not_count(self):
        self.assertEqual(self.judge([BOX], (NO_BOX, "passed", {})), (1, "0 passed, 1 failed, 0 skipped"))


class Dealing(unittest.TestCase):
    TESTS = [("a", ["vial", "engine"]), ("b", ["saved"]), ("c", ["debian_python", "saved"]), ("d", []), ("e", ["saved", "vial"]),
             ("f", ["debian_python"])]

    def test_what_is_slow_is_first_and_whole(self):
        self.assertEqual(deal.units(self.TESTS), [["c", "f"], ["b", "e"], ["a"], ["d"]])

    def test_each_is_dealt_once(self):
        dealer = deal.Dealer(self.TESTS)
        dealt = [dealer.more() for _ in range(6)]
        self.assertEqual(sorted(sum(dealt, [])), list("abcdef"))
        self.assertEqual(dealt[4:], [[], []])


unittest.main()
