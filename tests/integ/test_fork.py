# SPDX-License-Identifier: Apache-2.0
"""Copies of a running box: what they share, what they must not share, and what they do to each other (nothing)."""
import os
import subprocess

import pytest

import driver
import harness
import snapfile

SIZE = ("memory=256M", "cpus=1")

DISK_MIB = int(os.environ.get("VIAL_TEST_DISK_MIB", "4"))  # what each box writes; the soak has it at 100

# An interpreter with state, reached through two FIFOs: a line is evaluated and its result sent back.
SERVER = r"""
import os
state = {"rows": list(range(100000)), "secret": "before the fork"}
os.mkfifo("/tmp/in")
os.mkfifo("/tmp/out")
os.mkdir("/tmp/ready")
while True:
    with open("/tmp/in") as f:
        line = f.read()
    try:
        answer = repr(eval(line, globals()))
    except Exception as e:
        answer = repr(e)
    with open("/tmp/out", "w") as f:
        f.write(answer + "\n")
"""


def ask(*expressions):
    """A script that has the interpreter evaluate each of them."""
    return "; ".join(f"echo '{e}' > /tmp/in; cat /tmp/out" for e in expressions)


@pytest.fixture(scope="class")
def python_box(shared, debian_python):
    """A driver with one box, in which a Python interpreter holds state."""
    with driver.Driver(shared) as d:
        box = d.start(f"image={debian_python}", *SIZE)
        d.call("bg", box, f"exec python3 -c \"exec(bytes.fromhex('{SERVER.encode().hex()}'))\"")
        d.run(box, "while ! [ -d /tmp/ready ]; do sleep 0.1; done")
        yield d, box


class TestInterpreter:
    @pytest.mark.rig_fast
    def test_children_see_the_state_and_diverge(self, python_box):
        d, parent = python_box
        pid, rows = d.run(parent, ask("os.getpid()", 'len(state["rows"])')).split()
        assert rows == "100000"
        boxes = [parent, *d.fork(parent, 3)]
        for n, box in enumerate(boxes):
            # The same process, not one started anew.
            out = d.run(box, ask('(os.getpid(), state["secret"], sum(state["rows"]))', f"state.update(mine={n})"))
            assert out == f"({pid}, 'before the fork', 4999950000)\nNone\n"
        whole = []
        for n, box in enumerate(boxes):
            out = d.run(box, ask('state["mine"]', "os.urandom(16).hex()") + "; od -An -N16 -tx1 /dev/urandom; hostname; "
                        "cat /etc/machine-id /etc/hostname").split("\n")
            assert out[0] == str(n)
            assert out[3] == out[5] and len(out[4]) == 32, out
            whole.append(out)
        for column in (1, 2, 3, 4):
            assert len({lines[column] for lines in whole}) == len(boxes), whole

    @pytest.mark.rig_fast
    def test_disks_diverge_and_stay_sound(self, python_box, tmp_path):
        """Each writes data of its own and reads it back past its cache; the file system of each is clean."""
        d, parent = python_box
        d.run(parent, "echo common > /root/common; sync")
        child = d.fork(parent, 1)[0]
        d.run(child, "echo childs > /root/childs; sync")
        boxes = [parent, child, d.fork(child, 1)[0]]
        for n, box in enumerate(boxes):
            d.run(box, f"yes box-{n} | head -c {DISK_MIB}M > /root/own; sync; echo 3 > /proc/sys/vm/drop_caches")
        for n, box in enumerate(boxes):
            assert d.run(box, "cat /root/common; { head -n 1000 /root/own; tail -n 1000 /root/own | head -n 999; } | sort -u").split() == ["common", f"box-{n}"]
            assert d.run(box, "cat /root/childs 2>/dev/null; true") == ("" if box == parent else "childs\n")
        for box in boxes if os.environ.get("VIAL_SOAK") else (parent, boxes[-1]):
            fsck(d, box, tmp_path)


def fsck(d, box, tmp_path):
    """The writable disk as another machine would find it after a power cut: its journal replays, and then all is well."""
    d.call("snapshot", box, tmp_path / "box.vial")
    raw = tmp_path / "disk"
    snapfile.Snapshot(tmp_path / "box.vial").write_disk(harness.GUEST / "upper.ext4", raw)
    assert subprocess.run(["e2fsck", "-p", raw], capture_output=True, check=False).returncode in (0, 1)
    p = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, check=False)
    assert p.returncode == 0, p.stdout
    listed = subprocess.run(["debugfs", "-R", "stat /root/root/own", raw], capture_output=True, check=False).stdout
    assert b"Size: %d" % (DISK_MIB << 20) in listed, listed
    raw.unlink()


@pytest.mark.parametrize("n", [1, 10])
def test_children_are_boxes_of_their_own(vial, n):
    """However many: each has what the parent had, an identity of its own, and what one writes the others do not see."""
    with driver.Driver(vial) as d:
        parent = d.start(*SIZE)
        d.run(parent, "echo disk > /root/x; sync; echo memory > /dev/shm/x || echo memory > /tmp/x")
        boxes = [parent, *d.fork(parent, n)]
        for i, box in enumerate(boxes):
            d.run(box, f"echo own-{i} > /root/own; echo own-{i} > /tmp/own")
        whole = [d.run(box, "cat /root/own /tmp/own /root/x; cat /dev/shm/x /tmp/x 2>/dev/null; hostname; cat /etc/machine-id; "
                       "od -An -N16 -tx1 /dev/urandom").split("\n") for box in boxes]
        for i, lines in enumerate(whole):
            assert lines[:4] == [f"own-{i}", f"own-{i}", "disk", "memory"], lines
        for column in (4, 5, 6):
            assert len({lines[column] for lines in whole}) == n + 1, whole


# Overwrites a file in memory with one letter after the other, from its start to its end, for ever.
WRITER = ("n=0; while :; do n=$(((n + 1) % 6)); head -c 6291456 /dev/zero | tr '\\0' \"$(echo abcdef | cut -c $((n + 1)))\" "
          "| dd of=/dev/shm/big bs=64k conv=notrunc 2>/dev/null; [ -e /dev/shm/full ] || touch /dev/shm/full; done")


@pytest.mark.rig_fast
def test_memory_of_a_box_that_writes_is_of_one_instant(vial):
    """The kvm engine copies memory while the guest goes on writing it."""
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        d.call("bg", box, WRITER)
        d.run(box, "while ! [ -e /dev/shm/full ]; do sleep 0.05; done")
        for copy in [*d.fork(box, 1), *d.fork(box, 1), box]:
            d.run(copy, "while ! killall -STOP dd 2>/dev/null; do :; done")
            letters = d.run(copy, "tr -s a-f < /dev/shm/big").strip()
            assert len(letters) in (1, 2) and letters in "afedcba", letters
            d.run(copy, "killall -CONT dd")


@pytest.mark.rig_fast
def test_fork_while_paused(vial):
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        d.run(box, "echo kept > /dev/shm/x || echo kept > /tmp/x")
        d.call("pause", box)
        child = d.fork(box, 1)[0]
        assert "kept" in d.run(child, "cat /dev/shm/x /tmp/x 2>/dev/null; true")
        assert "paused" in d.fails("state", "pause", box)  # still
        d.call("resume", box)
        assert "kept" in d.run(box, "cat /dev/shm/x /tmp/x 2>/dev/null; true")


def test_commands_of_the_parent_go_on(vial):
    """A command with a client: it goes on talking in the parent; in the child its output goes nowhere and does not stop it."""
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        # 300 KB: more than a pipe and a window hold, should nobody read.
        d.call("bg", box, "echo go; while [ ! -e /tmp/go ]; do sleep 0.05; done; head -c 300000 /dev/zero; echo done > /tmp/done")
        child = d.fork(box, 1)[0]
        d.run(child, "touch /tmp/go; while [ ! -e /tmp/done ]; do sleep 0.05; done")
        assert d.run(box, "ls /tmp/done 2>/dev/null || echo none").strip() == "none"


def test_children_outlive_their_parent(vial):
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        d.run(box, "echo data > /root/x; sync")
        child = d.fork(box, 1)[0]
        d.call("stop", box)
        d.call("free", box)
        assert d.run(child, "echo 3 > /proc/sys/vm/drop_caches; cat /root/x") == "data\n"
        assert d.run(d.fork(child, 1)[0], "cat /root/x") == "data\n"


def test_as_an_ordinary_user(user_vial):
    path = user_vial.cwd / "user.vial"
    with driver.Driver(user_vial) as d:
        box = d.start(*SIZE)
        d.run(box, "echo data > /root/x; sync")
        assert d.run(d.fork(box, 1)[0], "cat /root/x") == "data\n"
        d.call("snapshot", box, path)
        assert path.stat().st_uid == (harness.ORDINARY_UID if os.getuid() == 0 else os.getuid())
    r = user_vial("run", "--from", path, "cat", "/root/x")
    path.unlink()
    assert (r.code, r.out) == (0, b"data\n"), r


@pytest.mark.rig_fast
def test_fork_errors(vial):
    with driver.Driver(vial) as d:
        box = d.create(*SIZE)
        assert "not started" in d.fails("state", "fork", box, 1)
        d.call("start", box)
        d.run(box, "true")
        assert "1 to 256" in d.fails("invalid", "fork", box, 0)
        d.call("stop", box)
        assert "stopped" in d.fails("state", "fork", box, 1)


@pytest.mark.soak
def test_layers_have_a_limit(vial):
    """Each fork makes the disk's chain longer: to a limit that is told, and beyond which the box is as good as before."""
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        made = 0
        while True:
            try:
                d.call("free", d.fork(box, 1)[0])
            except driver.Failed as e:
                assert e.code == "limit" and "16" in e.text, e
                break
            made += 1
            assert made <= 16
        assert made == 15  # the template's own is one
        assert d.run(box, "echo well > /root/x; sync; cat /root/x") == "well\n"
