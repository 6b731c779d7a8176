# SPDX-License-Identifier: Apache-2.0
"""The public library on real boxes: each case of lib-client is a C program of its own that ends silently with 0.

What is left afterwards is looked for by the fixture, as everywhere.
"""
import os
import signal
import subprocess

import pytest

import harness

pytestmark = pytest.mark.rig_fast

CLIENT = harness.BUILD / "tests/integ/lib-client"
HELLO = harness.BUILD / "examples/hello"
CASES = subprocess.run([CLIENT, "list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.split()


def client(v, *argv, **kw):
    return subprocess.Popen([str(a) for a in argv], env=v.env, cwd=v.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **kw)


def run(v, *argv):
    p = client(v, *argv)
    try:
        out, err = p.communicate(timeout=harness.TIMEOUT_S * 2)
    except subprocess.TimeoutExpired:
        p.kill()
        out, err = p.communicate()
        raise AssertionError(f"no end: {out!r} {err!r}") from None
    return harness.Result(p.returncode, out, err)


def test_there_are_cases():
    assert len(CASES) > 15


@pytest.mark.parametrize("case", CASES)
def test_case(vial, case):
    r = run(vial, CLIENT, case)
    assert (r.code, r.out, r.err) == (0, b"", b""), r


def test_hello_example(vial):
    """The quick start of vial.h does what README.md says."""
    kernel = harness.kernel_release()
    r = run(vial, HELLO)
    assert r.code == 0, r
    assert r.out.decode() == f"hello from Linux {kernel}\n(exit code 7)\n", r


def test_hello_example_tells_errors(vial):
    v = vial.env["VIAL_HOME"]
    p = subprocess.run([HELLO], env={**vial.env, "VIAL_HOME": "/dev/null/x"}, stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=60, check=False)
    assert p.returncode == 1 and p.stdout == b"", p
    assert p.stderr.startswith(b"hello: ") and p.stderr.count(b"\n") == 1 and v.encode() not in p.stderr, p


@pytest.mark.parametrize("end", ["exit", "kill", "term"])
def test_box_outlives_its_thread_and_dies_with_its_process(vial, end):
    """The starting thread has ended and commands still run; a forked child lives on with all descriptors and keeps nothing alive."""
    p = client(vial, CLIENT, "live", "exit" if end == "exit" else "wait")
    words = p.stdout.readline().split()
    assert len(words) == 2, p.communicate()
    child, monitor = map(int, words)
    try:
        if end != "exit":
            assert monitor in harness.descendants(), "the box is gone while its process lives"
            p.send_signal(signal.SIGKILL if end == "kill" else signal.SIGTERM)
        assert p.wait(timeout=60) == {"exit": 0, "kill": -signal.SIGKILL, "term": -signal.SIGTERM}[end]
        left = harness.settle(lambda: [harness.reap()] and
                              [(pid, what) for pid, what in harness.descendants().items() if pid != child])
        assert not left, left
        assert child in harness.descendants(), "the forked child should have lived on"
    finally:
        os.kill(child, signal.SIGKILL)
        p.communicate()
