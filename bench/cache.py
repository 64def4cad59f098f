#!/usr/bin/env python3
"""The semantic cache with many questions in it: time of an exact hit, a near hit and a miss, with one tenant and with many.

    bench/cache.py --vectors x.npy --texts t.json [--entries N] [--tenants T …] [--questions N]

Vectors are MiniLM's of the texts, row by row; where that is too few they are taken again, moved at random by a fifth of their length.
They are written into the table as cache_put() does, without embedding a million texts.  Asked are texts of the cache as they
stand there (exact hit), the same with a "please" in front (near hit) and questions of t/data/paraphrases.txt (misses).
Near hits and misses are asked twice: the second time the session remembers the embedding, so that time is the
search's.  One core, a server whose shared buffers hold the index.  MILLRACE_MINILM: the model's folder.  Needs numpy, psycopg.
"""
import argparse
import contextlib
import fcntl
import hashlib
import json
import pathlib
import statistics
import struct
import sys
import time

import numpy as np
import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "t"))
from lib import minilm                                  # noqa: E402
from lib.cluster import Cluster, find_pg_config         # noqa: E402

MASK = (1 << 64) - 1


def scope_of(cache, *parts):
    """As hash_parts() of src/task/cache_clear_pg.c."""
    h = hashlib.sha256(bytes([7]) + struct.pack(">i", cache))
    for p in parts:
        h.update(struct.pack("<I", len(p)) + p.encode())
    return h.digest()[:16]


def signs(scope, n):
    """As scoped_vector() of src/task/cache_pg.c, of generation 0."""
    state, out = int.from_bytes(scope[:8], "little"), np.empty(n, np.float32)
    for i in range(0, n, 64):
        state = (state + 0x9e3779b97f4a7c15) & MASK
        z = state
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & MASK
        z = (z ^ z >> 27) * 0x94d049bb133111eb & MASK
        z ^= z >> 31
        for k in range(min(64, n - i)):
            out[i + k] = -1 if z >> k & 1 else 1
    return out


def array(v):
    """real[] as COPY BINARY has it."""
    cells = np.empty(len(v), dtype=[("size", ">i4"), ("value", ">f4")])
    cells["size"], cells["value"] = 4, v
    return struct.pack(">iiIii", 1, 0, 700, len(v), 1) + cells.tobytes()


def field(b):
    return struct.pack(">i", len(b)) + b


def fill(s, cache, x, texts, entries, tenants):
    """entries rows; text i belongs to tenant i mod tenants."""
    rng = np.random.default_rng(1)
    scopes = [scope_of(cache, str(t), "", "") for t in range(tenants)]
    turned = [signs(p, x.shape[1]) for p in scopes]
    now = struct.pack(">q", int((time.time() - 946684800) * 1e6))
    head, tail = struct.pack(">h", 11) + field(struct.pack(">i", cache)), field(struct.pack(">h", 384))
    with s.cursor().copy("COPY millrace.cache_entries (cache, scope, generation, key, created_at, dimensions, embedding, question, answer, tenant, source) "
                         "FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for i in range(entries):
            v = x[i % len(x)]
            if i >= len(x):
                v = v + rng.normal(scale=0.2 / np.sqrt(len(v)), size=len(v)).astype("f")
            t = i % tenants
            text = texts[i % len(x)].encode()
            key = hashlib.md5(b"%d" % i).digest()
            copy.write(head + field(scopes[t]) + field(struct.pack(">q", 0)) + field(key) + field(now) + tail + field(array(v * turned[t])) + field(text) +
                       field(b"\1" + json.dumps({"text": "The answer to it. " * 8, "cost": 0.01}).encode()) + field(str(t).encode()) + field(b""))
        copy.write(struct.pack(">h", -1))


def cpu(s):
    """Seconds that the session's backend has used."""
    with open("/proc/%d/schedstat" % s.info.backend_pid) as f:
        return int(f.read().split()[0]) * 1e-9


def asked(s, questions):
    """(ms by the clock, ms of the backend's CPU) of each, and how many were hits of each kind."""
    ms, hits = [], {}
    for q, tenant in questions:
        c, t = cpu(s), time.perf_counter()
        hit = s.execute("SELECT hit FROM millrace.cache_get('c', %s, %s)", (q, tenant), prepare=True).fetchone()[0]
        t = time.perf_counter() - t
        ms.append((1e3 * t, 1e3 * (cpu(s) - c)))
        hits[hit or "miss"] = hits.get(hit or "miss", 0) + 1
    return ms, hits


def show(name, ms, hits):
    wall, used = sorted(m[0] for m in ms), [m[1] for m in ms]
    print("  %-24s median %6.2f ms   p95 %6.2f   least %6.2f   CPU, median %6.2f   %s" %
          (name, statistics.median(wall), wall[int(0.95 * len(wall))], wall[0], statistics.median(used), hits), flush=True)


def measure(s, x, texts, tenants, n):
    rng = np.random.default_rng(2)
    short = [i for i in range(len(x)) if 20 <= len(texts[i]) <= 120]         # as long as questions are
    chosen = [short[int(k)] for k in rng.integers(0, len(short), n)]
    own = [(texts[i], str(i % tenants)) for i in chosen]
    other = [q for q in (ROOT / "t/data/paraphrases.txt").read_text().splitlines() if q.endswith("?")]
    misses = [(other[k * len(other) // n], str(k % tenants)) for k in range(n)]
    for q, t in own[:n // 4]:
        s.execute("SELECT millrace.cache_put('c', %s, '1', %s)", (q, t))
    asked(s, own[:20] + misses[:20])
    show("exact hit", *asked(s, own[:n // 4] * 4))
    for name, questions in (("near hit", [("please " + q, t) for q, t in own]), ("miss", misses)):
        whole, search, hits = [], [], {}
        for q in questions:
            ms, h = asked(s, [q, q])
            whole.append(ms[0])
            search.append(ms[1])
            hits = {k: hits.get(k, 0) + h.get(k, 0) for k in hits | h}
        show(name, whole, hits)
        show("  without the embedding", search, "")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vectors", required=True)
    p.add_argument("--texts", required=True)
    p.add_argument("--entries", type=int, default=1000000)
    p.add_argument("--tenants", type=int, nargs="+", default=[1, 1000])
    p.add_argument("--questions", type=int, default=200)
    p.add_argument("--lock", help="a file that is locked while something is timed, on a shared machine")
    o = p.parse_args()
    x, texts = np.load(o.vectors, mmap_mode="r"), json.load(open(o.texts))
    for tenants in o.tenants:
        folder = ROOT / "tmp" / ("bench_cache_%d" % tenants)
        conf = {"fsync": "off", "shared_buffers": "3GB", "max_wal_size": "8GB", "shared_preload_libraries": "millrace", "autovacuum": "off"}
        with Cluster(find_pg_config(), folder, conf=conf) as c:
            c.psql("CREATE EXTENSION millrace")
            minilm.install(c)
            s = psycopg.connect(c.dsn(), autocommit=True)
            s.execute("SELECT millrace.create_cache('c', '{\"ttl_s\": null, \"capacity\": null, \"sample\": 0}')")
            t = time.time()
            fill(s, s.execute("SELECT id FROM millrace.caches").fetchone()[0], x, texts, o.entries, tenants)
            s.execute("VACUUM ANALYZE millrace.cache_entries")
            print("%d entries of %d tenants, filled in %.0f s" % (o.entries, tenants, time.time() - t), flush=True)
            with open(o.lock, "w") if o.lock else contextlib.nullcontext() as lock:
                if lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                measure(s, x, texts, tenants, o.questions)


main()
