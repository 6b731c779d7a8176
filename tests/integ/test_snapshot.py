# SPDX-License-Identifier: Apache-2.0
"""Pause and resume, live limits, snapshot files and what is wrong with them."""
import os
import stat
import struct

import pytest

import driver
import harness
import snapfile

SIZE = ("memory=256M", "cpus=1")


# ---- pause ----

@pytest.mark.rig_fast
def test_pause_stops_the_guest_and_its_clock_is_right_afterwards(vial):
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        d.call("bg", box, "i=0; while :; do i=$((i+1)); echo $i > /tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.1; done")
        d.run(box, "while [ ! -e /tmp/n ]; do sleep 0.1; done")
        d.call("pause", box)
        assert "paused already" in d.fails("state", "pause", box)
        d.call("resume", box)
        assert "not paused" in d.fails("state", "resume", box)
        before = int(d.run(box, "cat /tmp/n"))
        d.run(box, f"while [ $(cat /tmp/n) -le {before} ]; do sleep 0.1; done")
        guest = int(d.run(box, "date +%s"))
        host = int(os.popen("date +%s").read())
        assert abs(guest - host) <= 5, (guest, host)


def test_stop_of_a_paused_box_is_clean(vial):
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        d.run(box, "true")
        d.call("pause", box)
        d.call("stop", box)


# ---- limits ----

def limits(d, box):
    cpus, memory = d.run(box, "nproc; cat /sys/fs/cgroup/*/memory.max").split()
    return int(cpus), memory if memory == "max" else int(memory) >> 20


@pytest.mark.rig_fast
def test_limits_change_live(vial):
    with driver.Driver(vial) as d:
        box = d.start("cpus=1", "memory=128M", "max_cpus=2", "max_memory=2G")  # the machine that other tests use, too
        assert limits(d, box) == (1, 128)
        d.call("update", box, 2, 200)
        assert limits(d, box) == (2, 200)
        d.call("update", box, 1, 0)
        assert limits(d, box) == (1, 200)
        assert "--max-cpus" in d.fails("invalid", "update", box, 3, 0)
        assert "--max-memory" in d.fails("invalid", "update", box, 0, 4096)
        assert "64 MiB" in d.fails("invalid", "update", box, 0, 32)
        assert limits(d, box) == (1, 200)
        child = d.fork(box, 1)[0]
        assert limits(d, child) == (1, 200)
        d.call("update", child, 2, 2048)
        assert (limits(d, child), limits(d, box)) == ((2, "max"), (1, 200))
        d.call("pause", box)
        d.call("update", box, 2, 2048)
        d.call("resume", box)
        assert limits(d, box) == (2, "max")


def test_limits_on_the_command_line(vial):
    r = vial("run", "--cpus", "1", "--max-cpus", "2", "--memory", "128M", "--max-memory", "2G", "--", "nproc")
    assert (r.code, r.out) == (0, b"1\n"), r
    r = vial("run", "--cpus", "2", "--max-cpus", "1", "--", "true")
    harness.assert_one_line_error(r, "max_cpus", "less than cpus")
    r = vial("run", "--memory", "1G", "--max-memory", "512M", "--", "true")
    harness.assert_one_line_error(r, "max_memory", "less than memory")


# ---- files ----

@pytest.fixture(scope="module")
def saved(shared, tmp_path_factory):
    """Path of a snapshot of a box in which a counter runs."""
    path = tmp_path_factory.mktemp("snapshot") / "box.vial"
    with driver.Driver(shared) as d:
        box = d.start(*SIZE, "env=MOOD=good")
        d.run(box, "echo on-disk > /root/x; sync; echo in-memory > /tmp/y")
        d.call("bg", box, "i=0; while :; do i=$((i+1)); echo $i > /tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.1; done")
        d.run(box, "while [ ! -e /tmp/n ]; do sleep 0.1; done")
        d.call("snapshot", box, path)
        assert d.run(box, "cat /root/x") == "on-disk\n"  # it goes on
        parents_id = d.run(box, "cat /etc/machine-id").strip()
    return path, parents_id


@pytest.mark.rig_fast
def test_run_from_a_file(vial, saved):
    path, parents_id = saved
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    script = ("cat /root/x /tmp/y; echo $MOOD; n=$(cat /tmp/n); while [ $(cat /tmp/n) -le $n ]; do sleep 0.1; done; "
              "hostname; cat /etc/hostname /etc/machine-id")
    seen = set()
    for _ in range(2):
        r = vial("run", "--from", path, "sh", "-c", script)
        assert r.code == 0 and r.err == b"", r
        words = r.out.decode().split()
        assert words[:3] == ["on-disk", "in-memory", "good"], r
        assert words[3] == words[4], r
        seen.add(words[5])
    assert len(seen | {parents_id}) == 3


def test_from_takes_new_settings(vial, saved):
    path, _ = saved
    r = vial("run", "--from", path, "--hostname", "renamed", "-e", "MOOD=better", "-w", "/root", "--", "sh", "-c",
             "hostname; echo $MOOD; pwd; exit 3")
    assert (r.code, r.out) == (3, b"renamed\nbetter\n/root\n"), r
    for flag, value in (("--kernel", "/x"), ("--boot-arg", "x"), ("--max-cpus", "4")):
        r = vial("run", "--from", path, flag, value, "--", "true")
        harness.assert_one_line_error(r, "a snapshot has its own")
    r = vial("run", "--from", path, "--cpus", "2", "--", "true")
    harness.assert_one_line_error(r, "the snapshot's machine has 1")


@pytest.mark.rig_fast
def test_a_box_from_a_file_can_be_saved_and_forked(vial, saved, tmp_path):
    path, _ = saved
    with driver.Driver(vial) as d:
        box = int(d.call("from", path))
        d.call("start", box)
        d.run(box, "echo second > /root/z; sync")
        again = tmp_path / "again.vial"
        d.call("snapshot", box, again)
        child = d.fork(box, 1)[0]
        late = int(d.call("from", again))
        d.call("start", late)
        for b in (child, late):
            assert d.run(b, "cat /root/x /tmp/y /root/z").split() == ["on-disk", "in-memory", "second"]


def edited(path, tmp_path, at, data):
    new = tmp_path / "edited.vial"
    with open(path, "rb") as f, open(new, "wb") as g:
        while chunk := f.read(1 << 20):
            g.write(chunk)
    with open(new, "r+b") as g:
        g.seek(at if at >= 0 else os.path.getsize(new) + at)
        g.write(data)
    return new


def test_damaged_files(vial, saved, tmp_path):
    path, _ = saved
    size = os.path.getsize(path)
    cut = tmp_path / "cut.vial"
    for keep in (10, 50, 5000, size - 1):
        with open(path, "rb") as f:
            cut.write_bytes(f.read(keep))
        r = vial("run", "--from", cut, "--", "true")
        harness.assert_one_line_error(r, "cut short" if keep >= 16 else "not a snapshot")
    r = vial("run", "--from", edited(path, tmp_path, 200, b"\xff"), "--", "true")
    harness.assert_one_line_error(r, "altered", "header")
    r = vial("run", "--from", edited(path, tmp_path, -1000, b"something else"), "--", "true")
    harness.assert_one_line_error(r, "altered", "fail their check")
    r = vial("run", "--from", edited(path, tmp_path, size, b"more"), "--", "true")
    harness.assert_one_line_error(r, "altered")
    r = vial("run", "--from", edited(path, tmp_path, 16, struct.pack("<I", 2)), "--", "true")
    harness.assert_one_line_error(r, "another version")
    r = vial("run", "--from", "/etc/passwd", "--", "true")
    harness.assert_one_line_error(r, "not a snapshot")
    r = vial("run", "--from", "/etc", "--", "true")
    harness.assert_one_line_error(r, "not a snapshot")
    r = vial("run", "--from", tmp_path / "nothing", "--", "true")
    harness.assert_one_line_error(r, "No such file")


@pytest.mark.parametrize("tag, change, words", [
    (snapfile.CPU_DIGEST, lambda v: b"0" * len(v), ("on another processor",)),
    (snapfile.ENGINE_DIGEST, lambda v: b"0" * len(v), ("another build of the engine",)),
    (snapfile.ENGINE, lambda v: b"x" + v[1:], ("by the engine 'x",)),
    (snapfile.ARCH, lambda v: b"s390_x", ("architecture 's390_x'",)),
    (snapfile.LAYOUT, lambda v: struct.pack("<I", 99), ("layout 99",)),
    (snapfile.PAGE_SIZE, lambda v: struct.pack("<I", 65536), ("pages of 65536",)),
    (snapfile.BASE_DIGEST, lambda v: b"0" * len(v), ("another base disk",)),
    (snapfile.IMAGE_DIGEST, lambda v: b"0" * len(v), ("another root disk",)),
    (snapfile.ROOT_BYTES, lambda v: struct.pack("<Q", 1 << 40), ("root disk is shorter than recorded",)),
    (snapfile.UPPER_BYTES, lambda v: struct.pack("<Q", 1 << 40), ("shorter than recorded",)),
    (snapfile.MEMORY, lambda v: struct.pack("<Q", 1 << 43), ("needs 8388608 MiB",)),
    (snapfile.VCPUS, lambda v: struct.pack("<I", 3), ("of a size that there is not",)),
], ids=["cpu", "build", "engine", "arch", "layout", "pages", "base", "image", "root", "upper", "memory", "vcpus"])
def test_snapshots_that_do_not_fit(vial, saved, tmp_path, tag, change, words):
    path, _ = saved
    h = snapfile.Header(path)
    h.replace(tag, change)
    new = edited(path, tmp_path, 0, h.signed((vial.home / "snapshot.key").read_bytes()))
    r = vial("run", "--from", new, "--", "true")
    harness.assert_one_line_error(r, *words)


def test_from_elsewhere_only_with_trust_and_a_full_jail(fresh, saved):
    """Another home has another key: the same file is somebody else's there."""
    path, _ = saved
    v = fresh()
    r = v("run", "--from", path, "--", "true")
    harness.assert_one_line_error(r, "not made in this state directory", "--trust")
    r = v("run", "--from", path, "--trust", "--", "sh", "-c", "cat /root/x /tmp/y; echo mood $MOOD")
    doctor = v("--json", "doctor").out
    if r.code != 0:  # a host that cannot jail QEMU fully must refuse, and say so
        harness.assert_one_line_error(r, "jail")
        return
    # Its specification is not believed.
    assert (r.code, r.out) == (0, b"on-disk\nin-memory\nmood\n"), (r, doctor)


def test_a_killed_save_leaves_the_old_file(vial, tmp_path):
    target = tmp_path / "s.vial"
    target.write_bytes(b"old")
    with driver.Driver(vial) as d:
        box = d.start(*SIZE)
        d.run(box, "true")
        d.call("pause", box)  # the save itself is not what is killed: the file appears whole or not at all
        assert "No such file" in d.fails("not-found", "snapshot", box, "/nonexistent/dir/s.vial")
        d.call("snapshot", box, target)
        assert target.read_bytes()[:13] == b"VIAL-SNAPSHOT"
        assert os.listdir(tmp_path) == ["s.vial"]
        d.call("resume", box)
        assert d.run(box, "echo well") == "well\n"
