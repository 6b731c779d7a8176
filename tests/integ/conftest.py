# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the integration tests; what they are made of is in harness.py."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes longer than a minute")
    config.addinivalue_line("markers", "rig_fast: run on the kvm engine in the nested rig by make test-kvm")
    config.addinivalue_line("markers", "rig_full: run there by make soak (set by itself for every other test of an engine)")
    config.addinivalue_line("markers", "soak: too long for every run; VIAL_SOAK=1 runs it")
    for path in (harness.PROGRAM, harness.GUEST / "vmlinuz", harness.GUEST / "agent.cpio"):
        if not path.exists():
            pytest.exit(f"{path} is missing: run `make guest` first (VIAL_BUILD={harness.BUILD})", returncode=3)
    # What runs in the background, or by nohup, ignores some signals, and vial would then, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for sig in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(sig, signal.SIG_DFL)
    harness.become_subreaper()


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "engine" in item.fixturenames and not item.get_closest_marker("rig_fast"):
            item.add_marker(pytest.mark.rig_full)
    if not os.environ.get("VIAL_SOAK"):
        long = [i for i in items if i.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [i for i in items if i not in long]


def make_vial(base, engine, uid=None, home="home"):
    """A Vial below directory BASE, which is made accessible to UID."""
    base = pathlib.Path(base)
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    if uid is not None:
        os.chown(base, uid, uid)
    return harness.Vial(base / home, engine, uid, base)


@pytest.fixture(scope="session")
def space():
    """A directory for state of this session, reachable by any user, on a real file system."""
    d = tempfile.mkdtemp(prefix="vial-test-", dir=os.environ.get("VIAL_TEST_DIR", "/var/tmp"))
    os.chmod(d, 0o755)
    yield pathlib.Path(d)
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="session", params=harness.engines())
def engine(request):
    return request.param


@pytest.fixture(scope="session")
def shared(space, engine):
    """The Vial most tests share: its templates are built once."""
    v = make_vial(space / engine, engine)
    v("run", "--", "true", check=True, timeout=300)
    return v


def checked(v):
    """Yield V to a test, then fail the test if anything of V is left."""
    before = harness.cgroups()
    yield v
    bad = harness.settle(lambda: harness.leftovers(v))
    for pid in harness.descendants():
        harness.kill_hard(pid)  # so that one leak fails one test
    harness.settle(lambda: [harness.reap()] and list(harness.descendants()))
    assert not bad, "left behind: " + "; ".join(bad)
    assert not harness.settle(lambda: harness.cgroups() - before), "cgroups left behind"


@pytest.fixture
def vial(shared):
    """vial(...) on the shared home; afterwards nothing may be left."""
    yield from checked(shared)


@pytest.fixture
def fresh(space, engine, request):
    """make(home="home", uid=None) -> a Vial with an empty home; each is checked for leftovers and removed."""
    made = []

    def make(home="home", uid=None):
        base = tempfile.mkdtemp(prefix="fresh-", dir=space)
        os.chmod(base, 0o755)
        v = make_vial(base, engine, uid, home)
        gen = checked(v)
        next(gen)
        made.append((base, gen))
        return v

    yield make
    try:
        for _, gen in made:
            next(gen, None)
    finally:
        for base, _ in made:
            subprocess.run(["rm", "-rf", base], check=False)


@pytest.fixture(scope="session")
def user_home(space, engine):
    """An ordinary user's Vial, its template built. As root it runs under a uid of its own, else it is us."""
    uid = harness.ORDINARY_UID if os.getuid() == 0 else None
    v = make_vial(space / f"{engine}-user", engine, uid)
    v("run", "--", "true", check=True, timeout=300)
    return v


@pytest.fixture
def user_vial(user_home):
    yield from checked(user_home)


@pytest.fixture(scope="session")
def debian_python():
    """Path of a tar with Debian and Python (tests/assets/make-debian)."""
    r = subprocess.run([harness.TOP / "tests/assets/make-debian"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert r.returncode == 0, r.stderr.decode()
    return r.stdout.decode().strip()
