# SPDX-License-Identifier: Apache-2.0
"""What agent-drive.py tries."""
import statistics
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
    times = []
    for _ in range(60):
        t = time.monotonic()
        expect(al.run(m.link, ["true"]))
        times.append((time.monotonic() - t) * 1000)
    times.sort()
    print(f"    exec true: p50 {statistics.median(times):.1f} ms, min {times[0]:.1f}, p90 {times[54]:.1f}")


CASES = [v for k, v in list(globals().items()) if k.startswith("case_")]


def run_all(args, d, Machine):
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
    finally:
        m.kill()
        print(open(m.log, errors="replace").read()[-3000:])
    return 1 if bad else 0
