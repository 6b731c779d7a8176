# SPDX-License-Identifier: Apache-2.0
"""The agent protocol and its link layer in Python, written from wire/agent.proto and wire/link.h.

An implementation of its own, so that the agent can be tried without the host side of vial.
"""
import os
import queue
import socket
import struct
import threading

MAGIC = b"\xf5vial-link\x01\xa7\x1c\xe3\x9b\r"
CHUNK = 32 * 1024 - 8
OPEN, DATA, SHUT, ABORT = 1, 2, 3, 4
HOST = dict(hello=1, refresh=2, setup=3, exec=4, stdin=5, stdin_end=6, credit=7, signal=8, resize=9,
            quiesce=10, thaw=11, power_off=12, ping=13, sync=14)
GUEST = {1: "hello", 2: "done", 3: "failed", 4: "started", 5: "output", 6: "credit", 7: "exited",
         8: "stdin_closed"}
FAIL = ["other", "not_found", "not_executable", "bad_cwd", "bad_user", "too_long", "no_memory", "bad_request",
        "limit", "root"]


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    """One field: int is a varint, bytes or str are length-delimited, None and 0 are left out."""
    if value is None or value is False or (isinstance(value, int) and value == 0):
        return b""
    if isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def parse(data):
    """dict of field number to list of values"""
    out, at = {}, 0

    def take():
        nonlocal at
        n = shift = 0
        while True:
            b = data[at]
            at += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n

    while at < len(data):
        key = take()
        if key & 7 == 0:
            value = take()
        else:
            size = take()
            value = data[at:at + size]
            at += size
        out.setdefault(key >> 3, []).append(value)
    return out


def frame(kind, body=b""):
    msg = varint(HOST[kind] << 3 | 2) + varint(len(body)) + body
    return struct.pack(">I", len(msg)) + msg


def hello():
    return frame("hello", field(1, b"vial-agent") + field(2, 1) + field(3, 1))


def exec_body(argv, env=(), cwd="", user="", tty=False, rows=0, cols=0, rlimits=(), timeout_ms=0, stdin=False,
              window=256 * 1024, init=False):
    body = b"".join(varint(1 << 3 | 2) + varint(len(a)) + a for a in
                    (x if isinstance(x, bytes) else x.encode() for x in argv))
    body += b"".join(field(2, e) for e in env)
    body += field(3, cwd) + field(4, user) + field(5, int(tty)) + field(6, rows) + field(7, cols)
    for resource, soft, hard in rlimits:
        body += field(8, field(1, resource) + field(2, soft) + field(3, hard) or b"")
    return body + field(9, timeout_ms) + field(10, int(stdin)) + field(11, window) + field(12, int(init))


class Conn:
    def __init__(self, link, number):
        self.link, self.number = link, number
        self.buf = b""
        self.q = queue.Queue()

    def feed(self, data):
        self.buf += data
        while len(self.buf) >= 4:
            size = struct.unpack(">I", self.buf[:4])[0]
            if len(self.buf) < 4 + size:
                return
            msg, self.buf = self.buf[4:4 + size], self.buf[4 + size:]
            for number, values in parse(msg).items():
                self.q.put((GUEST[number], parse(values[0])))

    def send(self, kind, body=b""):
        self.raw(frame(kind, body))

    def raw(self, data):
        for i in range(0, len(data), CHUNK):
            self.link.packet(DATA, self.number, data[i:i + CHUNK])

    def get(self, timeout=20):
        return self.q.get(timeout=timeout)

    def shut(self):
        self.link.packet(SHUT, self.number)

    def abort(self):
        self.link.packet(ABORT, self.number)


class Link:
    def __init__(self, sock, key=bytes(16)):
        self.sock, self.key = sock, key
        self.conns, self.last = {}, 0
        self.lock = threading.Lock()
        self.ready = threading.Event()
        self.epoch = None
        self.wait = b""
        threading.Thread(target=self.reader, daemon=True).start()

    def reset(self, timeout=20):
        self.ready.clear()
        next_key, epoch = os.urandom(16), os.urandom(16)
        self.conns, self.last, self.wait = {}, 0, b""
        self.epoch = epoch
        self.sock.sendall(MAGIC + self.key + next_key + epoch)
        self.key = next_key
        if not self.ready.wait(timeout):
            raise TimeoutError("no HELLO from the agent")

    def packet(self, kind, number, data=b""):
        with self.lock:
            self.sock.sendall(struct.pack(">BBHI", kind, 0, len(data), number) + data)

    def open(self):
        self.last += 1
        c = self.conns[self.last] = Conn(self, self.last)
        self.packet(OPEN, c.number)
        c.raw(hello())
        return c

    def reader(self):
        buf = b""
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                for c in self.conns.values():
                    c.q.put(("eof", {}))
                return
            buf += data
            if not self.ready.is_set():
                at = buf.find(MAGIC + self.epoch) if self.epoch else -1
                if at < 0:
                    continue
                buf = buf[at + 32:]
                self.ready.set()
            while len(buf) >= 8:
                kind, _, size, number = struct.unpack(">BBHI", buf[:8])
                if kind not in (DATA, SHUT, ABORT):
                    raise ValueError(f"bad packet {buf[:16]!r}")
                if len(buf) < 8 + size:
                    break
                payload, buf = buf[8:8 + size], buf[8 + size:]
                c = self.conns.get(number)
                if not c:
                    continue
                if kind == DATA:
                    c.feed(payload)
                else:
                    c.q.put(("shut" if kind == SHUT else "abort", {}))


class Result:
    def __init__(self):
        self.out, self.err = b"", b""
        self.pid = self.code = self.signal = self.failed = self.ended = None
        self.timed_out = self.oom = self.stdin_closed = False


class Failed(Exception):
    pass


def control(conn, kind, body=b""):
    conn.send(kind, body)
    name, m = conn.get()
    while name == "hello":
        name, m = conn.get()
    if name != "done":
        raise Failed(f"{kind}: {name} {FAIL[m.get(1, [0])[0]] if name == 'failed' else ''} {m.get(3)}")


class Exec:
    """One command; credit is given back as output is taken."""

    def __init__(self, link, argv, auto_credit=True, **kw):
        self.conn, self.r, self.auto = link.open(), Result(), auto_credit
        self.window = 0
        self.conn.send("exec", exec_body(argv, **kw))

    def step(self, timeout=20):
        name, m = self.conn.get(timeout)
        r = self.r
        one = lambda n: m.get(n, [0])[0]
        if name == "started":
            r.pid, self.window = one(1), one(2)
        elif name == "failed":
            r.failed = (FAIL[one(1)], one(2), (m.get(3) or [b""])[0].decode(errors="replace"))
        elif name == "output":
            data = m[2][0]
            if one(1) == 1:
                r.out += data
            else:
                r.err += data
            if self.auto:
                self.conn.send("credit", field(1, one(1)) + field(2, len(data)))
        elif name == "credit":
            self.window += one(2)
        elif name == "exited":
            r.code, r.signal, r.timed_out, r.oom = one(1), one(2), bool(one(3)), bool(one(4))
        elif name == "stdin_closed":
            r.stdin_closed = True
        elif name in ("shut", "abort", "eof"):
            r.ended = name
        return name

    def until(self, *names, timeout=20):
        while True:
            name = self.step(timeout)
            if name in names:
                return name
            if name in ("shut", "abort", "eof"):
                return name

    def wait(self, timeout=60):
        self.until("exited", "failed", timeout=timeout)
        if not self.r.ended:
            self.until("shut", timeout=timeout)
        self.conn.shut()
        return self.r

    def stdin(self, data):
        while data:
            while self.window == 0:
                if self.step() in ("exited", "failed", "shut", "abort", "eof"):
                    return
            n = min(self.window, len(data), 32768)
            self.window -= n
            self.conn.send("stdin", field(2, data[:n]))
            data = data[n:]

    def stdin_end(self):
        self.conn.send("stdin_end")


def run(link, argv, stdin=None, timeout=60, **kw):
    e = Exec(link, argv, stdin=stdin is not None, **kw)
    if stdin is not None:
        if e.until("started", "failed") == "started":
            e.stdin(stdin)
            if e.r.code is None and e.r.signal is None and not e.r.ended:
                e.stdin_end()
        elif e.r.failed:
            return e.r
    if e.r.code is not None:
        return e.r
    return e.wait(timeout)


def connect(path, tries=200):
    import time
    for _ in range(tries):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            time.sleep(0.02)
    raise TimeoutError(path)
