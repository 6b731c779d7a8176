# SPDX-License-Identifier: Apache-2.0
"""Copies of a running box: what they share, what they must not share, and what they do to each other (nothing)."""
import pytest

import driver

SIZE = ("memory=256M", "cpus=1")

# An interpreter with state, reached over a unix socket: a line is evaluated and its result sent back.
SERVER = r"""
import os, socket, random
state = {"rows": list(range(100000)), "secret": "before the fork"}
s = socket.socket(socket.AF_UNIX)
s.bind("/tmp/py.sock")
s.listen(8)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    line = c.makefile().readline()
    try:
        c.sendall(repr(eval(line, globals())).encode())
    except Exception as e:
        c.sendall(repr(e).encode())
    c.close()
"""
ASK = ("import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect('/tmp/py.sock');"
       "s.sendall(sys.argv[1].encode()+b'\\n');print(s.makefile().read())")


@pytest.fixture(scope="class")
def python_box(shared, debian_python):
    """A driver with one box, in which a Python interpreter holds state."""
    d = driver.Driver(shared)
    box = d.start(f"image={debian_python}", *SIZE)
    encoded = SERVER.encode().hex()
    d.run(box, f"python3 -c \"open('/root/server.py','wb').write(bytes.fromhex('{encoded}'))\"")
    d.run(box, f"python3 -c \"open('/root/ask.py','w').write(bytes.fromhex('{ASK.encode().hex()}').decode())\"")
    d.call("bg", box, "exec python3 /root/server.py")
    d.run(box, "while ! [ -S /tmp/py.sock ]; do sleep 0.05; done")
    yield d, box
    d.__exit__()


def ask(d, box, expression):
    return d.run(box, f"python3 /root/ask.py '{expression}'").strip()


def fsck(d, box):
    """The upper disk as another machine would find it: frozen, read whole, checked."""
    disk = d.run(box, "for d in /sys/block/vd*; do [ \"$(cat $d/serial)\" = vial-upper ] && echo ${d##*/}; done").strip()
    code, out = d.run(box, f"sync; mknod /tmp/upper b $(cut -d: -f1 /sys/block/{disk}/dev) $(cut -d: -f2 /sys/block/{disk}/dev) "
                           f"2>/dev/null; e2fsck -fn /tmp/upper 2>&1", check=False)
    assert code in (0, 4) and "UNEXPECTED INCONSISTENCY" not in out, out


class TestInterpreter:
    @pytest.mark.rig_fast
    def test_children_see_the_state_and_diverge(self, python_box):
        d, parent = python_box
        assert ask(d, parent, "len(state[\"rows\"])") == "100000"
        pid = ask(d, parent, "os.getpid()")
        children = d.fork(parent, 3)
        boxes = [parent, *children]
        for n, box in enumerate(boxes):
            # The same process, not one started anew.
            assert ask(d, box, "(os.getpid(), state[\"secret\"], sum(state[\"rows\"]))") == f"({pid}, 'before the fork', 4999950000)"
            assert ask(d, box, f"state.update(mine={n})") == "None"
        for n, box in enumerate(boxes):
            assert ask(d, box, "state[\"mine\"]") == str(n)
        whole = [d.run(box, "head -c 16 /dev/urandom | od -An -tx1; hostname; cat /etc/machine-id /etc/hostname").split("\n")
                 for box in boxes]
        for column in range(3):
            assert len({lines[column] for lines in whole}) == len(boxes), whole
        assert all(lines[1] == lines[3] for lines in whole), whole
        # The kernel's generator, asked through the cloned process itself.
        assert len({ask(d, box, "os.urandom(16)") for box in boxes}) == len(boxes)

    @pytest.mark.rig_fast
    def test_disks_diverge_and_stay_sound(self, python_box):
        """Each writes data of its own and reads it back past its cache; the file system of each is clean."""
        d, parent = python_box
        d.run(parent, "echo common > /root/common; sync")
        children = d.fork(parent, 2)
        grandchild = d.fork(children[0], 1)[0]
        boxes = [parent, *children, grandchild]
        for n, box in enumerate(boxes):
            d.run(box, f"yes box-{n} | head -c 8M > /root/own; sync; echo 3 > /proc/sys/vm/drop_caches")
        for n, box in enumerate(boxes):
            assert d.run(box, "cat /root/common; sort -u /root/own | head -n 3").split()[:2] == ["common", f"box-{n}"]
            fsck(d, box)


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


@pytest.mark.rig_fast
def test_fork_errors(vial):
    with driver.Driver(vial) as d:
        box = d.create(*SIZE)
        assert "not started" in d.fails("state", "fork", box, 1)
        d.call("start", box)
        assert "1 to 256" in d.fails("invalid", "fork", box, 0)
        d.call("stop", box)
        assert "stopped" in d.fails("state", "fork", box, 1)


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
