# SPDX-License-Identifier: Apache-2.0
"""Machines that are woken from a frozen QEMU (docs/ARCHITECTURE.md, "Templates"), and what happens when it does not fit."""
import json
import os
import pathlib

import pytest

import harness


@pytest.fixture
def emulated(vial, engine):
    """A Vial whose last box was of the template that template() finds."""
    info = json.loads(vial("--json", "info", check=True).out)["engine"]
    if engine != "qemu" or info["accelerator"] != "tcg":
        pytest.skip("only QEMU's emulator is frozen")
    assert vial("run", "--", "echo", "first", check=True).out == b"first\n"
    return vial


def template(v):
    """The one used last: each use sets its directory's time."""
    return max((p.parent for p in (v.home / "templates").glob("*/mem") if (p.parent / "upper").exists()), key=lambda d: d.stat().st_mtime_ns)


def is_frozen(v):
    return (template(v) / "frozen.meta").read_text().split()[2] != "none"


def maps_image(v):
    """The process of a running box that has the frozen one's memory, or None."""
    image = os.stat(template(v) / "frozen").st_ino
    for pid in harness.descendants():
        try:
            lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            continue
        if any(line.split()[4] == str(image) for line in lines):
            return pid
    return None


def test_boxes_are_woken(emulated):
    v = emulated
    assert is_frozen(v)
    before = (template(v) / "frozen").stat()
    p = v.popen("run", "--", "sh", "-c", "echo up; sleep 1000")
    harness.wait_output(p, b"up")
    woken = maps_image(v)
    assert woken
    for task in pathlib.Path(f"/proc/{woken}/task").iterdir():  # in the jail, each of its threads
        status = dict(line.split(":\t") for line in (task / "status").read_text().splitlines() if ":\t" in line)
        assert (status["NoNewPrivs"], status["Seccomp"], status["CapEff"]) == ("1", "2", "0" * 16)
    assert pathlib.Path(f"/proc/{woken}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-name", b"vial"]
    assert pathlib.Path(f"/proc/{woken}/comm").read_text() == "qemu-system-x86\n"
    p.kill()
    p.wait()
    after = (template(v) / "frozen").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_each_writes_for_itself(emulated):
    """What one box writes to memory and disk the next does not see."""
    v = emulated
    script = "cat /left /dev/shm/left 2>/dev/null; echo x | tee /left > /dev/shm/left; sync; cat /left"
    for _ in range(3):
        assert v("run", "--", "sh", "-c", script, check=True).out == b"x\n"


def cut(d):
    os.truncate(d / "frozen", (d / "frozen").stat().st_size // 2)


def overwrite(d):
    with open(d / "frozen", "r+b") as f:
        f.write(bytes(4096))


def other_boot(d):
    words = (d / "frozen.meta").read_text().split()
    words[3] = "0" * len(words[3])
    (d / "frozen.meta").write_text(" ".join(words) + "\n")


def no_disk(d):
    (d / "frozen.upper").unlink()


@pytest.mark.parametrize("spoil", [cut, overwrite, other_boot, no_disk])
def test_what_does_not_fit_is_made_anew(emulated, spoil):
    v = emulated
    d = template(v)
    for f in ("frozen", "frozen.upper"):
        os.chmod(d / f, 0o600)
    spoil(d)
    spoilt = (d / "frozen").stat()
    assert v("run", "--", "echo", "second", check=True).out == b"second\n"
    assert is_frozen(v)
    assert (d / "frozen").stat().st_ctime_ns > spoilt.st_ctime_ns
    assert v("run", "--", "echo", "third", check=True).out == b"third\n"


def test_without(emulated):
    """A template whose QEMU could not be frozen on this boot: boxes start all the same, and it is not tried each time."""
    v = emulated
    d = template(v)
    words = (d / "frozen.meta").read_text().split()
    (d / "frozen.meta").write_text(f"vial-frozen 1 none {words[3]}\n")
    p = v.popen("run", "--", "sh", "-c", "echo up; sleep 1000")
    harness.wait_output(p, b"up")
    assert not maps_image(v)
    p.kill()
    p.wait()
    assert not is_frozen(v)
    (d / "frozen.meta").unlink()
