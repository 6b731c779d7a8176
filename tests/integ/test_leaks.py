# SPDX-License-Identifier: Apache-2.0
"""Ten at once, and death of the client in every way: nothing survives, the template stays what it was.

That nothing is left after each of these tests is the fixture's check (harness.leftovers).
"""
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import textwrap
import time

import pytest

import harness

KILLS = int(os.environ.get("VIAL_TEST_KILLS", "100"))
FIRST_KILLS = int(os.environ.get("VIAL_TEST_FIRST_KILLS", "4"))


def digest(path):
    """SHA-256 of a file's size and of its data, each stretch with its place; holes, of which guest memory mostly consists, are not read."""
    h, at = hashlib.sha256(), 0
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        h.update(b"%d" % size)
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            h.update(b"%d %d" % (at, end))
            while at < end:
                data = os.pread(f.fileno(), min(end - at, 1 << 20), at)
                h.update(data)
                at += len(data)
    return h.hexdigest()


def digests(home):
    """Digest of every file below the template cache."""
    root = pathlib.Path(home) / "templates"
    assert root.is_dir(), f"{root} is where templates are expected"
    return {str(p): digest(p) for p in sorted(root.rglob("*")) if p.is_file()
            and not p.name.endswith((".lock", ".stamp", "lru"))}


@pytest.mark.rig_fast
def test_ten_at_once_are_ten_machines(vial):
    running = [vial.popen("run", "--", "cat", "/proc/sys/kernel/random/uuid", "/etc/machine-id") for _ in range(10)]
    uuids, ids = set(), set()
    for p in running:
        out, err = p.communicate(timeout=120)
        assert p.returncode == 0, err
        uuid, machine = out.decode().split()
        uuids.add(uuid)
        ids.add(machine)
    assert (len(uuids), len(ids)) == (10, 10)
    assert all(len(i) == 32 for i in ids)


def test_ten_first_runs_boot_one_template(fresh):
    v = fresh()
    running = [v.popen("run", "--", "echo", "fine") for _ in range(10)]
    for p in running:
        out, err = p.communicate(timeout=300)
        assert (p.returncode, out) == (0, b"fine\n"), err
    built = [p for p in (v.home / "templates").iterdir() if p.is_dir()]
    with_root = [p for p in built if (p / "upper").exists()]  # made from the other, the one that was booted
    assert (len(built), len(with_root)) == (2, 1), built


@pytest.mark.rig_fast
def test_random_bytes_differ_between_siblings(vial):
    """Two boxes of one template: their first random bytes are their own."""
    for device in ("urandom", "hwrng"):
        one, two = (vial("run", "--", "head", "-c", "32", f"/dev/{device}", check=True).out for _ in range(2))
        assert len(one) == 32 and one != two, device


def nothing_left(v):
    bad = harness.settle(lambda: harness.leftovers(v))
    assert not bad, bad


def test_sigkill_at_random_moments(vial):
    """The client is killed anywhere between its first instruction and its command's end."""
    rng = random.Random(20261122)
    reached = 0
    start = time.monotonic()
    vial("run", "--", "true", check=True)
    span = 1.5 * (time.monotonic() - start)
    for _ in range(KILLS):
        p = vial.popen("run", "--", "sh", "-c", "echo up; sleep 1000", stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, span))  # the moment is what is random here
        p.kill()
        out = p.stdout.read()
        p.wait()
        p.stdout.close()
        reached += out == b"up\n"
        nothing_left(vial)
    assert 0 < reached < KILLS, f"{reached} of {KILLS} commands had started: moments are not spread"


def test_sigterm_at_random_moments(vial):
    """Before the command runs SIGTERM ends vial itself, later the command: the code is the same, and nothing stays."""
    rng = random.Random(20261124)
    start = time.monotonic()
    vial("run", "--", "true", check=True)
    span = 1.5 * (time.monotonic() - start)
    for _ in range(10):
        p = vial.popen("run", "--", "sleep", "1000", stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, span))  # the moment is what is random here
        p.terminate()
        _, err = p.communicate(timeout=60)
        assert p.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), (p.returncode, err)
        nothing_left(vial)


def test_sigkill_in_the_first_run(fresh):
    """The client is killed while images are imported and templates built: nothing runs on, and the next run makes do."""
    v = fresh()
    start = time.monotonic()
    v("run", "--", "true", check=True, timeout=300)
    span = time.monotonic() - start
    shutil.rmtree(v.home)
    rng = random.Random(20261123)
    for part in range(FIRST_KILLS):
        p = v.popen("run", "--", "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(span * (part + rng.random()) / FIRST_KILLS)
        p.kill()
        p.wait()
        bad = harness.settle(lambda: harness.leftovers(v))
        assert not bad, bad
    assert v("run", "--", "echo", "fine", check=True, timeout=300).out == b"fine\n"
    unfinished = [p for p in (v.home / "templates").iterdir() if p.name.startswith(".")]
    assert not unfinished, unfinished


@pytest.mark.rig_fast
def test_sigkill_of_monitor(vial):
    """With its monitor gone the box is gone, and the client says so."""
    p = vial.popen("run", "--", "sh", "-c", "echo up; sleep 1000")
    harness.wait_output(p, b"up\n")
    (monitor,) = [pid for pid, (comm, _) in harness.descendants().items() if comm == "vial-monitor"]
    os.kill(monitor, signal.SIGKILL)
    _, err = p.communicate(timeout=30)
    assert p.returncode == 125, err
    assert err.startswith(b"vial: "), err


@pytest.mark.rig_fast
def test_sigkill_of_engine(vial, engine):
    program = {"qemu": "qemu-system-x86_64", "kvm": "vial-vmm"}[engine][:15]
    p = vial.popen("run", "--", "sh", "-c", "echo up; sleep 1000")
    harness.wait_output(p, b"up\n")
    engines = [pid for pid, (comm, _) in harness.descendants().items() if comm == program]
    assert len(engines) == 1
    os.kill(engines[0], signal.SIGKILL)
    _, err = p.communicate(timeout=30)
    assert p.returncode == 125, err
    assert err.startswith(b"vial: "), err


def test_library_client_that_forked(vial, space):
    """A program that uses libvial in a thread and has forked a child with all descriptors open is killed: no process of the box stays.

    The child itself may stay; it is ended here before the leftovers are looked for.
    """
    source = space / "client.c"
    source.write_text(textwrap.dedent(r"""
        #include <pthread.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        #include <vial/vial.h>

        static void die(const struct vial_err *err)
        {
            fprintf(stderr, "%s\n", err->msg);
            exit(1);
        }

        static void *client(void *unused)
        {
            struct vial_err err = VIAL_ERR_INIT;
            struct vial *v;
            struct vial_spec *spec;
            struct vial_box *box;

            (void)unused;
            if (vial_open(NULL, &v, &err) || vial_spec_new(&spec, &err) || vial_box_create(v, spec, &box, &err) ||
                vial_box_start(box, &err))
                die(&err);
            return NULL;
        }

        int main(void)
        {
            pthread_t t;
            pid_t child;

            if (pthread_create(&t, NULL, client, NULL) || pthread_join(t, NULL))
                return 1;
            child = fork();
            if (child == 0) {
                sleep(1000);
                _exit(0);
            }
            printf("%d\n", (int)child);
            fflush(stdout);
            sleep(1000);
            return 0;
        }
    """))
    program = space / "client"
    subprocess.run(["gcc", "-o", program, source, f"-I{harness.TOP}/include", f"-L{harness.BUILD}/src", "-lvial", "-lpthread",
                    f"-Wl,-rpath,{harness.BUILD}/src"], check=True)
    # The thread that started the box has ended by the time the box must still live.
    p = subprocess.Popen([program], env=vial.env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=vial.cwd)
    child = int(p.stdout.readline() or b"0")
    assert child, "the client could not start a box"
    try:
        names = {comm for comm, _ in harness.descendants().values()}
        assert "vial-monitor" in names, names
        p.kill()
        p.wait()
        gone = harness.settle(lambda: [harness.reap()] and
                              [c for pid, c in harness.descendants().items() if pid != child])
        assert not gone, gone
        assert child in harness.descendants(), "the forked child should outlive this check"
    finally:
        p.stdout.close()
        harness.kill_hard(child)


def test_hostile_guest_cannot_change_the_template(vial):
    before = digests(vial.home)
    assert before
    script = """
        for d in /dev/vd*; do dd if=/dev/zero of=$d bs=1M count=4 conv=notrunc 2>/dev/null; done
        dd if=/dev/urandom of=/dev/mem bs=4096 count=256 2>/dev/null
        for f in /dev/shm/fill /root/fill; do dd if=/dev/zero of=$f bs=1M count=24 2>/dev/null; done
        sync; echo done
    """
    vial("run", "--", "sh", "-c", script, timeout=120)
    assert digests(vial.home) == before
    assert vial("run", "--", "echo", "fine", check=True).out == b"fine\n"


def test_client_in_a_shell_pipeline(vial):
    """`vial run … | head -1`: the reader goes first."""
    cmd = " ".join(vial.argv("run", "--", "yes")) + " | head -n 1"
    r = subprocess.run(["bash", "-c", cmd], env=vial.env, cwd=vial.cwd, capture_output=True, timeout=60, check=False)
    assert r.stdout == b"y\n", r
