# SPDX-License-Identifier: Apache-2.0
"""What agent-drive.py tries."""
import json
import shutil
import statistics
import subprocess
import time
import traceback

import agent_link as al


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(map(repr, what)))


def expect(r, code=0, out=None, err=None, signal=0):
    check(r.failed is None, r.failed)
    check((r.code, r.signal) == (code, signal), "ended", r.code, r.signal, r.out[:300], r.err[:300])
    if out is not None:
        check(r.out == out, "stdout", r.out[:300])
    if err is not None:
        check(r.err == err, "stderr", r.err[:300])


def case_echo(m):
    expect(al.run(m.link, ["echo", "hello"]), out=b"hello\n", err=b"")
    expect(al.run(m.link, ["sh", "-c", "exit 7"]), code=7)


def case_round_trip(m):
    def cpu():
        f = open(f"/proc/{m.proc.pid}/stat").read().split()
        return (int(f[13]) + int(f[14])) * 10

    for _ in range(20):
        al.run(m.link, ["true"])
    times, before = [], cpu()
    for _ in range(60):
        t = time.monotonic()
        expect(al.run(m.link, ["true"]))
        times.append((time.monotonic() - t) * 1000)
    used = (cpu() - before) / len(times)
    times.sort()
    print(f"    exec true: p50 {statistics.median(times):.1f} ms, min {times[0]:.1f}, p90 {times[54]:.1f}, QEMU cpu {used:.1f}")


def case_failures(m):
    for argv, kw, kind in (
            (["nosuch"], {}, "not_found"), (["/bin/nosuch"], {}, "not_found"), (["/bin/badinterp"], {}, "not_found"),
            (["/bin"], {}, "not_executable"), (["/bin/noexec"], {}, "not_executable"),
            (["noexec"], {}, "not_executable"), (["/bin/badformat"], {}, "not_executable"),
            (["true"], dict(cwd="/nosuch"), "bad_cwd"), (["true"], dict(cwd="/etc/passwd"), "bad_cwd"),
            (["true"], dict(user="nobody-here"), "bad_user"), (["true"], dict(user="ann:nogroup"), "bad_user"),
            (["true", "x" * 200000], {}, "too_long"), (["true"] + ["y" * 100000] * 30, {}, "too_long")):
        r = al.run(m.link, argv, **kw)
        check(r.failed and r.failed[0] == kind, argv[0], kw, "wanted", kind, "got", r.failed, r.code)
        print("       ", r.failed)


def case_users(m):
    for user, want in (("", b"0 0 0"), ("ann", b"1000 1000 1000 10 29"), ("1000", b"1000 1000 1000 10 29"),
                       ("ann:audio", b"1000 29 29"), ("4242:4243", b"4242 4243 4243"), ("big", b"70000 70001 70001"),
                       ("0:10", b"0 10 10")):
        r = al.run(m.link, ["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"], user=user)
        expect(r, out=want + b"\n")
    expect(al.run(m.link, ["sh", "-c", "echo $HOME $PATH"], user="ann"),
           out=b"/home/ann /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")
    expect(al.run(m.link, ["env"], env=["A=1", "PATH=/bin", "HOME=/x"]), out=b"A=1\nPATH=/bin\nHOME=/x\n")
    expect(al.run(m.link, ["pwd"], cwd="/home/ann"), out=b"/home/ann\n")


def case_io(m):
    data = bytes(range(256)) * 8192
    r = al.run(m.link, ["cat"], stdin=data)
    expect(r, err=b"")
    check(r.out == data, len(r.out))
    both = "head -c 262144 /dev/zero | tr '\\0' a; head -c 262144 /dev/zero | tr '\\0' b >&2"
    r = al.run(m.link, ["sh", "-c", both])
    expect(r, out=b"a" * 262144, err=b"b" * 262144)
    expect(al.run(m.link, ["cat"]), out=b"")
    r = al.run(m.link, ["head", "-c", "3"], stdin=b"abc" * 400000)
    expect(r, out=b"abc")
    expect(al.run(m.link, ["sh", "-c", "exec <&-; sleep 0.2; echo x"], stdin=b"y" * 100), out=b"x\n")


def case_credit(m):
    """stdout without credit holds neither stderr nor another command"""
    e = al.Exec(m.link, ["sh", "-c", "(yes | head -c 3000000) & echo err >&2; wait"], auto_credit=False, window=65536)
    while not e.r.err:
        e.step()
    while len(e.r.out) < 65536:
        e.step()
    expect(al.run(m.link, ["echo", "other"]), out=b"other\n")
    check(len(e.r.out) == 65536 and e.conn.q.empty())
    e.auto = True
    e.conn.send("credit", al.field(1, 1) + al.field(2, 65536))
    r = e.wait()
    expect(r, err=b"err\n")
    check(len(r.out) == 3000000, len(r.out))


def case_violations(m):
    e = al.Exec(m.link, ["sleep", "100"], stdin=True)
    e.until("started")
    for _ in range(20):
        e.conn.send("stdin", al.field(2, b"z" * 32768))
    check(e.until("exited") in ("abort",), e.r.ended)
    for raw in (al.frame("ping"), b"\xff\xff\xff\xff", b"\0\0\0\2\xff\xff"):
        c = m.link.open()
        while c.get()[0] != "hello":
            pass
        if raw[0:1] != b"\0" or raw == al.frame("ping"):
            c.send("exec", al.exec_body(["sleep", "5"]))
        c.raw(raw)
        while True:
            if c.get()[0] == "abort":
                break
    check(alive(m, "sleep") == 0, "sleep left")


def alive(m, word):
    """processes of that name, without this one's"""
    for _ in range(50):
        n = int(al.run(m.link, ["sh", "-c", "ps -o comm | grep -c '^%s$'" % word]).out)
        if n == 0:
            break
    return n


def case_signals(m):
    r = al.run(m.link, ["sh", "-c", "kill -TERM $$"])
    expect(r, signal=15)
    for init in (False, True):
        e = al.Exec(m.link, ["sh", "-c", "trap 'echo got; exit 3' TERM; echo on; while :; do sleep 0.05; done"],
                    init=init)
        while b"on" not in e.r.out:
            e.step()
        e.conn.send("signal", al.field(1, 15))
        expect(e.wait(), code=3, out=b"on\ngot\n")
    e = al.Exec(m.link, ["sh", "-c", "setsid sleep 77 & echo on; wait"])
    while b"on" not in e.r.out:
        e.step()
    e.conn.send("signal", al.field(1, 9))
    expect(e.wait(), signal=9, out=b"on\n")
    check(alive(m, "sleep") == 0)
    expect(al.run(m.link, ["sh", "-c", "kill -SEGV $$"], init=True), signal=11)


def case_init(m):
    expect(al.run(m.link, ["sh", "-c", "exit 9"], init=True), code=9)
    expect(al.run(m.link, ["sh", "-c", "(sleep 0.1; echo late) & cat /proc/$PPID/comm"], init=True), out=b"init\n")
    expect(al.run(m.link, ["cat"], stdin=b"abc", init=True), out=b"abc")
    r = al.run(m.link, ["nosuch"], init=True)
    check(r.failed and r.failed[0] == "not_found", r.failed)


def case_timeout(m):
    t = time.monotonic()
    r = al.run(m.link, ["sh", "-c", "setsid sleep 60 & echo a; sleep 60"], timeout_ms=300)
    expect(r, signal=9, out=b"a\n")
    check(r.timed_out and time.monotonic() - t < 5)
    check(alive(m, "sleep") == 0)


def case_drop(m):
    for how in ("shut", "abort"):
        e = al.Exec(m.link, ["sh", "-c", "setsid sleep 55 & sleep 55"])
        e.until("started")
        getattr(e.conn, how)()
        check(alive(m, "sleep") == 0, how)


def case_orphan(m):
    """Output held open by an orphan does not delay the end; the orphan lives on."""
    t = time.monotonic()
    expect(al.run(m.link, ["sh", "-c", "sleep 3 & echo done"]), out=b"done\n")
    check(time.monotonic() - t < 2.5)
    r = al.run(m.link, ["sh", "-c", "sleep 99 & head -c 200000 /dev/zero"])
    check(len(r.out) == 200000, len(r.out))
    al.run(m.link, ["killall", "sleep"])


def case_tty(m):
    r = al.run(m.link, ["sh", "-c", "stty size; tty; echo $TERM; test -t 2 && echo yes"], tty=True, rows=33, cols=101)
    expect(r, out=b"33 101\r\n/dev/pts/0\r\nxterm\r\nyes\r\n")
    e = al.Exec(m.link, ["sh"], tty=True, rows=24, cols=80, stdin=True, env=["PS1=> ", "PATH=/bin"])

    def say(text, want):
        e.r.out = b""
        e.stdin(text)
        while want not in e.r.out:
            check(e.step() not in ("exited", "abort"), e.r.out)

    e.until("started")
    say(b"echo $((40+2))\n", b"42\r\n> ")
    e.conn.send("resize", al.field(1, 50) + al.field(2, 120))
    say(b"stty size\n", b"50 120\r\n> ")
    say(b"sh -c 'echo g$((1+1)); exec sleep 70'\n", b"g2")
    say(b"\x1a", b"> ")
    say(b"jobs\n", b"Stopped")
    say(b"fg\n", b"exec sleep 70")
    say(b"\x03", b"> ")
    e.stdin(b"exit 5\n")
    r = e.wait()
    check(r.code == 5, r.code)
    expect(al.run(m.link, ["cat"], stdin=b"partial", tty=True), out=b"partialpartial")


def case_binary_tty_output(m):
    r = al.run(m.link, ["sh", "-c", "stty -opost; head -c 500000 /dev/zero"], tty=True)
    check(len(r.out) == 500000, len(r.out))


def case_rlimits(m):
    expect(al.run(m.link, ["sh", "-c", "ulimit -n; ulimit -c"], rlimits=[(7, 77, 99), (4, 0, 2**64 - 1)]),
           out=b"77\n0\n")


def case_root(m):
    r = al.run(m.link, ["sh", "-c", "hostname; cat /etc/hostname; cat /etc/machine-id; ls -ld / /tmp | cut -c1-10; "
                                    "ls /dev/fd/ >/dev/null && echo fd; ip -o addr show lo | head -1 | grep -c 127.0.0.1; "
                                    "cat /proc/mounts; df / | tail -1; ls /dev/shm /mnt /init 2>&1; cat /proc/1/oom_score_adj /proc/self/oom_score_adj"])
    expect(r)
    print(r.out.decode())
    expect(al.run(m.link, ["sh", "-c", "mv /home/ann /home/bob && ls /home && mv /home/bob /home/ann"]), out=b"bob\n")


def case_freeze(m):
    e = al.Exec(m.link, ["sh", "-c", "while :; do echo tick; sleep 0.02; done"])
    while e.r.out.count(b"tick") < 3:
        e.step()
    t = time.monotonic()
    al.control(m.control, "quiesce")
    print(f"    quiesce {(time.monotonic() - t) * 1000:.1f} ms")
    while not e.conn.q.empty():
        e.step()
    time.sleep(0.3)
    check(e.conn.q.empty(), "output while frozen")
    al.control(m.control, "thaw")
    n = e.r.out.count(b"tick")
    while e.r.out.count(b"tick") < n + 3:
        e.step()
    e.conn.shut()


def case_reset(m):
    """A new epoch in mid-frame: connections are gone, commands run on."""
    e = al.Exec(m.link, ["sh", "-c", "echo on; sleep 66"], stdin=True)
    while b"on" not in e.r.out:
        e.step()
    m.link.sock.sendall(b"\2\0\x40\0\0\0\0\1half a packet")
    m.link.reset()
    m.control = m.link.open()
    al.control(m.control, "ping")
    check(int(al.run(m.link, ["sh", "-c", "ps -o comm | grep -c '^sleep$'"]).out) == 1)
    al.run(m.link, ["killall", "sleep"])


def case_many(m):
    es = [al.Exec(m.link, ["sh", "-c", "echo %d" % i]) for i in range(40)]
    for i, e in enumerate(es):
        expect(e.wait(), out=b"%d\n" % i)


def case_fork_bomb(m):
    e = al.Exec(m.link, ["sh", "-c", "b() { b | b & }; b; sleep 100"], timeout_ms=3000)
    e.until("started")
    time.sleep(1)
    t = time.monotonic()
    al.control(m.control, "ping")
    print(f"    ping under a fork bomb {(time.monotonic() - t) * 1000:.0f} ms")
    r = e.wait(60)
    check(r.timed_out)
    expect(al.run(m.link, ["echo", "well"]), out=b"well\n")


def case_oom(m):
    m.refresh(memory=64 << 20)
    r = al.run(m.link, ["sh", "-c", "x=a; while :; do x=$x$x; done"], timeout=60)
    check(r.oom and r.signal == 9, r.oom, r.signal, r.code, r.err)
    m.refresh(memory=0)


def case_zz_cpus(m):
    m.refresh(cpus=1)
    expect(al.run(m.link, ["nproc"]), out=b"1\n")
    m.refresh(cpus=2)
    expect(al.run(m.link, ["nproc"]), out=b"2\n")


def case_zz_cgroups_gone(m):
    r = al.run(m.link, ["sh", "-c", "sleep 0.1; ls -d /sys/fs/cgroup/vial/*/ | wc -l; ps | grep -c '[Z]' "])
    print("    groups left, zombies:", r.out)


CASES = [v for k, v in list(globals().items()) if k.startswith("case_")]


class Qmp:
    def __init__(self, path):
        self.f = al.connect(path).makefile("rw")
        self.f.readline()
        self("qmp_capabilities")

    def __call__(self, command, **args):
        self.f.write(json.dumps({"execute": command, "arguments": args}) + "\n")
        self.f.flush()
        while True:
            r = json.loads(self.f.readline())
            if "error" in r:
                raise RuntimeError(r["error"])
            if "return" in r:
                return r["return"]

    def migrated(self):
        while True:
            status = self("query-migrate").get("status")
            if status in ("completed", "failed"):
                return status
            time.sleep(0.001)


CAPS = [{"capability": "x-ignore-shared", "state": True}]


def make_template(args, d, Machine):
    """Boots with placeholder disks, quiesces, snapshots. Returns the link's key."""
    m = Machine(args, d, "t", disks=("", ""), state=d + "/mem")
    try:
        link = m.connect()
        al.control(m.control, "quiesce")
        q = Qmp(m.qmp_path)
        q("stop")
        q("migrate-set-capabilities", capabilities=CAPS)
        q("migrate", uri="exec:cat > " + d + "/state")
        check(q.migrated() == "completed")
        q("quit")
        m.proc.wait()
        return link.key
    finally:
        m.kill()


def restore(args, d, Machine, key, name):
    shutil.copy(d + "/upper.img", d + "/upper-" + name + ".img")
    m = Machine(args, d, name, disks=("root.img", "upper-" + name + ".img"), incoming=True, state=d + "/mem")
    q = Qmp(m.qmp_path)
    q("migrate-set-capabilities", capabilities=CAPS)
    q("migrate-incoming", uri="exec:cat " + d + "/state")
    check(q.migrated() == "completed")
    q("cont")
    t = [time.monotonic()]
    m.connect(key)
    t.append(time.monotonic())
    m.refresh(host=name)
    t.append(time.monotonic())
    m.setup()
    t.append(time.monotonic())
    al.control(m.control, "thaw")
    t.append(time.monotonic())
    r = al.run(m.link, ["cat", "/etc/machine-id"])
    t.append(time.monotonic())
    m.times = [round((b - a) * 1000, 1) for a, b in zip(t, t[1:])]
    m.first = r
    return m


def template_runs(args, d, Machine, n):
    key = make_template(args, d, Machine)
    ids, rows = set(), []
    for i in range(n):
        m = restore(args, d, Machine, key, f"box{i}")
        try:
            expect(m.first)
            ids.add(m.first.out)
            rows.append(m.times)
        finally:
            m.kill()
            log = open(m.log, errors="replace").read()
            if log:
                print(log[-2000:])
    check(len(ids) == n, ids)
    print("restored: hello, refresh, setup, thaw, first exec (ms)")
    for row in rows:
        print("   ", row)


def run_all(args, d, Machine):
    if args.template:
        template_runs(args, d, Machine, args.template)
        return 0
    m = Machine(args, d)
    bad = 0
    try:
        m.connect()
        print(f"boot to HELLO: {(time.monotonic() - m.started) * 1000:.0f} ms")
        t = time.monotonic()
        m.refresh()
        t1 = time.monotonic()
        m.setup()
        t2 = time.monotonic()
        print(f"refresh {(t1 - t) * 1000:.1f} ms, setup {(t2 - t1) * 1000:.1f} ms")
        for case in CASES:
            name = case.__name__[5:]
            if args.k and not any(k in name for k in args.k):
                continue
            try:
                case(m)
                print("ok  ", name)
            except Exception:
                bad += 1
                print("FAIL", name)
                traceback.print_exc()
        if not args.k:
            t = time.monotonic()
            al.Exec(m.link, ["sh", "-c", "echo x > /root/file; exec sleep 100 3>/root/open"]).until("started")
            al.control(m.control, "power_off")
            m.proc.wait(20)
            print(f"power-off {(time.monotonic() - t) * 1000:.0f} ms")
            fsck = subprocess.run(["e2fsck", "-fn", d + "/upper.img"], capture_output=True, text=True)
            print(fsck.stdout[-400:])
            check(fsck.returncode == 0, "e2fsck", fsck.returncode)
            state = subprocess.run(["dumpe2fs", "-h", d + "/upper.img"], capture_output=True, text=True).stdout
            check("needs_recovery" not in state, "journal not clean")
    finally:
        m.kill()
        print(open(m.log, errors="replace").read()[-3000:])
    return 1 if bad else 0
