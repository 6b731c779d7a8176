# SPDX-License-Identifier: Apache-2.0
"""As an ordinary user and as root; state directories with odd names."""
import contextlib
import os
import pathlib
import shutil

import pytest

import harness


def uids(pid):
    """Real, effective, saved and file system uid."""
    line = next(x for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("Uid:"))
    return set(map(int, line.split()[1:]))


def capabilities(pid):
    line = next(x for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("CapEff:"))
    return int(line.split()[1], 16)


def helpers(v):
    """{comm: (uids, capabilities)} of all processes of a box while it runs, the client left out."""
    p = v.popen("run", "--", "sh", "-c", "echo up; exec sleep 1000")
    try:
        harness.wait_output(p, b"up\n")
        found = {}
        for pid, (comm, _) in harness.descendants().items():
            with contextlib.suppress(FileNotFoundError):  # one that has just ended, such as a template's builder
                if comm != "vial":
                    found[comm] = (uids(pid), capabilities(pid))
        return found
    finally:
        p.kill()
        p.communicate()


@pytest.mark.rig_fast
def test_ordinary_user_runs(user_vial):
    r = user_vial("run", "--", "sh", "-c", "uname -r; id -u; exit 7")
    version = harness.kernel_release()
    assert (r.code, r.out) == (7, f"{version}\n0\n".encode()), r


@pytest.mark.rig_fast
def test_ordinary_users_helpers_have_no_other_identity(user_vial):
    uid = harness.ORDINARY_UID if os.getuid() == 0 else os.getuid()
    found = helpers(user_vial)
    assert "vial-monitor" in found and any(c.startswith(("qemu", "vial-vmm")) for c in found), found
    for comm, (ids, caps) in found.items():
        assert ids == {uid}, (comm, ids)
        assert caps == 0, (comm, hex(caps))


@pytest.mark.skipif(os.getuid() != 0, reason="not root")
def test_root_has_no_helper_with_uid_0(vial):
    found = helpers(vial)
    assert "vial-monitor" in found and any(c.startswith(("qemu", "vial-vmm")) for c in found), found
    for comm, (ids, caps) in found.items():
        assert 0 not in ids, (comm, ids)
        assert caps == 0, (comm, hex(caps))


@pytest.mark.skipif(os.getuid() != 0, reason="not root")
def test_programs_where_no_other_user_may_look(fresh):
    """vial built below a directory of mode 0700: helpers with a uid of their own still start, under their names."""
    v = fresh()
    locked = v.base / "locked"
    (locked / "src").mkdir(parents=True)
    locked.chmod(0o700)
    for name in ("vial", "vial-monitor", "vial-unpack"):
        shutil.copy(harness.PROGRAM.parent / name, locked / "src")
    os.symlink(harness.GUEST, locked / "guest")
    v.program = locked / "src/vial"
    assert "vial-monitor" in helpers(v)


def test_users_image(user_vial, space):
    """An import by an ordinary user keeps owners the user does not have."""
    r = user_vial("run", "--", "stat", "-c", "%u:%g %a", "/tmp", "/root", "/bin/busybox", check=True)
    assert r.out == b"0:0 1777\n0:0 700\n0:0 755\n"


def test_home_with_spaces_and_longer_than_a_socket_address(fresh):
    v = fresh(home="a home with spaces/" + "long" * 30 + "/home")
    assert len(str(v.home)) > 108
    v.home.parent.mkdir(parents=True)
    assert v("run", "--", "echo", "fine", timeout=300, check=True).out == b"fine\n"
    assert v("run", "--", "echo", "again", check=True).out == b"again\n"


def test_home_is_private(vial):
    """Nobody else gets in. As root each box's own uid works in boxes/, by a descriptor: that one is open, but sticky,
    and cannot be listed."""
    assert vial.home.stat().st_mode & 0o077 == 0
    for p in vial.home.iterdir():
        if os.getuid() == 0 and p.name == "boxes":
            assert p.stat().st_mode & 0o7777 == 0o1733
        else:
            assert p.stat().st_mode & 0o077 == 0, p


def test_home_from_flag(vial, tmp_path):
    """--home goes before $VIAL_HOME, which is not even made."""
    r = vial("--home", vial.home, "run", "--", "echo", "fine", env={"VIAL_HOME": str(tmp_path / "other")}, check=True)
    assert r.out == b"fine\n"
    assert not (tmp_path / "other").exists()
