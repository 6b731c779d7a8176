# SPDX-License-Identifier: Apache-2.0
"""Which engine runs the boxes, why, and what is said when it cannot."""
import json
import os
import pathlib
import subprocess
import time

import pytest

import harness
from harness import assert_one_line_error

# A /dev of its own with the nodes that programs need; the first argument is an empty directory, the second
# makes a node called kvm in it or does not, the rest is the command.
OWN_DEV = """
set -e
dev=$1 make=$2
shift 2
mount -t tmpfs -o mode=755 none "$dev"
for node in null zero full random urandom tty; do
    : >"$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
done
ln -s /proc/self/fd "$dev/fd"
(cd "$dev" && eval "$make")
mount --move "$dev" /dev
exec "$@"
"""


def info(vial, engine):
    return json.loads(vial("--json", "--engine", engine, "info", check=True).out)["engine"]


def kvm_problem(vial):
    """Why this machine's KVM is not used; None if it is."""
    return info(vial, "qemu").get("kvm_problem")


def test_info_tells_the_engine_and_why(vial, engine):
    found = info(vial, engine)
    assert found["usable"] and found["name"] == engine and found["why"] == "asked for", found
    assert found["program"].endswith("vial-vmm" if engine == "kvm" else "qemu-system-x86_64"), found


def test_auto_takes_kvm_where_it_is_usable(vial):
    found, problem = info(vial, "auto"), kvm_problem(vial)
    assert found["name"] == ("qemu" if problem else "kvm"), found
    assert found["why"] == ("KVM is not usable" if problem else "KVM is usable"), found


def test_environment_chooses_the_engine(vial, engine):
    got = vial("--json", "info", env={"VIAL_ENGINE": engine}, check=True)
    assert json.loads(got.out)["engine"]["name"] == engine, got
    assert_one_line_error(vial("run", "--", "true", env={"VIAL_ENGINE": "vz"}), "vz", "auto, kvm or qemu")


def test_doctor_tells_the_engine_and_about_kvm(vial, engine):
    rows = {c["name"]: c for c in json.loads(vial("--json", "doctor").out)}
    assert rows["engine"]["result"] == "ok" and rows["engine"]["found"].startswith(engine), rows
    problem = kvm_problem(vial)
    assert rows["kvm"]["result"] == ("warn" if problem else "ok"), rows
    assert (problem or "usable") in rows["kvm"]["found"], rows


def test_kvm_asked_for(vial):
    """It runs the box, or fails at once and says why; it never hangs and never runs something else."""
    problem, start = kvm_problem(vial), time.monotonic()
    r = vial("--engine", "kvm", "run", "--", "echo", "it", "runs")
    if problem is None:
        assert (r.code, r.out) == (0, b"it runs\n"), r
        return
    assert time.monotonic() - start < 10
    assert_one_line_error(r, "engine 'kvm' cannot be used", problem)
    if pathlib.Path("/sys/module/kvm_pvm").exists() and os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert b"kvm_pvm" in r.err, r
    rows = {c["name"]: c for c in json.loads(vial("--json", "--engine", "kvm", "doctor").out)}
    assert rows["engine"]["result"] == "fail" and problem in rows["engine"]["found"], rows


def in_own_dev(vial, tmp_path, make):
    """The command line with a /dev where MAKE, run in it, has made kvm; skips where that is not possible."""
    dev = tmp_path / "dev"
    dev.mkdir()
    wrapper = ["unshare", "--mount", "sh", "-c", OWN_DEV, "sh", str(dev), make]
    if os.getuid() != 0 or subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace for a /dev of its own")
    vial.prefix = wrapper + vial.prefix
    return vial


def test_kvm_absent(make_vial_in, tmp_path):
    v = in_own_dev(make_vial_in(tmp_path), tmp_path, ":")
    assert_one_line_error(v("--engine", "kvm", "run", "--", "true"), "/dev/kvm does not exist", "modprobe")
    assert info(v, "auto")["name"] == "qemu"


def test_kvm_not_permitted(make_vial_in, tmp_path):
    os.chmod(tmp_path, 0o755)
    v = in_own_dev(make_vial_in(tmp_path, harness.ORDINARY_UID), tmp_path, ": >kvm; chmod 600 kvm")
    assert_one_line_error(v("--engine", "kvm", "run", "--", "true"), "/dev/kvm", "group kvm")
    assert "group kvm" in info(v, "auto")["kvm_problem"]
