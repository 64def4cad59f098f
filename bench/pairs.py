#!/usr/bin/env python3
"""Near pairs from SQL, one core: hashes and vectors against each other, one image against a million.

    bench/pairs.py [--rounds 3] [--large] [--image]

Peers: faiss (IndexBinaryFlat.range_search) and numpy on arrays in memory, which need no server; ours includes the arrays' way
into the function and the rows' way out.  --large: 1,000,000 hashes and 200,000 vectors of 64, and the memory of the process.
--image: check_image() of a data set of 1,000,000 images, from its JPEG on.  CPU seconds, least of the rounds.
Needs numpy, psycopg, faiss.
"""
import argparse
import io
import sys
import uuid

from common.side import Side

import faiss
import numpy as np
from PIL import Image

faiss.omp_set_num_threads(1)


def hashes(n, rng):
    """Random ones, and near copies of some: 2,500 of 50,000."""
    h = rng.integers(0, 1 << 64, n, np.uint64)
    planted = n // 20
    copies = h[:planted].copy()
    for i in range(planted):
        for b in rng.choice(64, rng.integers(0, 11), replace=False):
            copies[i] ^= np.uint64(1) << np.uint64(b)
    h[-planted:] = copies
    return h


def vectors(n, dims, rng):
    """Of unit length, a common direction and clusters in them, as those of sentences have."""
    centre = rng.normal(size=(n // 10, dims)).astype('f')
    v = 0.5 * rng.normal(size=dims).astype('f') + centre[rng.integers(0, n // 10, n)] + rng.normal(size=(n, dims)).astype('f') * rng.choice([0.15, 1, 2], (n, 1)).astype('f')
    return np.ascontiguousarray(v / np.linalg.norm(v, axis=1, keepdims=True), 'f')


def put(s, table, column, values):
    """An array of one row, as it would come from array_agg()."""
    s.db.execute(f'DROP TABLE IF EXISTS {table}; CREATE TEMP TABLE {table} (a {column}[]); ALTER TABLE {table} ALTER a SET STORAGE EXTERNAL')
    kind, oid = (('>i8', 20), ('>f4', 700))[column == 'real']
    cells = np.zeros(values.size, [('size', '>i4'), ('value', kind)])
    cells['size'], cells['value'] = int(kind[2]), values.ravel().view('i8') if column == 'bigint' else values.ravel()
    array = np.array([1, 0, oid, values.size, 1], '>i4').tobytes() + cells.tobytes()
    with s.db.cursor().copy(f'COPY {table} FROM STDIN (FORMAT binary)') as c:
        c.write(b'PGCOPY\n\xff\r\n\0' + bytes(8) + np.array([1], '>i2').tobytes() + np.array([len(array)], '>i4').tobytes())
        for i in range(0, len(array), 1 << 20):
            c.write(array[i:i + (1 << 20)])
        c.write(b'\xff\xff')


def by_numpy_hashes(h):
    return sum(int((np.bitwise_count(h[i + 1:] ^ h[i]) <= 10).sum()) for i in range(len(h)))


def by_numpy_vectors(v, least, block=2000):
    n = 0
    for i in range(0, len(v), block):
        for j in range(i, len(v), block):
            near = v[i:i + block] @ v[j:j + block].T >= least
            n += int(np.triu(near, 1).sum() if i == j else near.sum())
    return n


def by_faiss_hashes(h):
    index = faiss.IndexBinaryFlat(64)
    bytes_ = h.view('u1').reshape(-1, 8)
    index.add(bytes_)
    limits, _, _ = index.range_search(bytes_, 11)
    return (int(limits[-1]) - len(h)) // 2


def small(rounds, rng):
    with Side() as s:
        h, v = hashes(50_000, rng), vectors(50_000, 384, rng)
        put(s, 'h', 'bigint', h)
        put(s, 'v', 'real', v)
        for _ in range(rounds):
            ours = s.clock('hashes', lambda: s.one('SELECT count(*) FROM h, millrace.hash_pairs(h.a, 10)'))
            assert ours == s.clock('faiss hashes', lambda: by_faiss_hashes(h)) == s.clock('numpy hashes', lambda: by_numpy_hashes(h))
            ours = s.clock('vectors', lambda: s.one('SELECT count(*) FROM v, millrace.embedding_pairs(v.a, 384, 0.95)'))
            theirs = s.clock('numpy vectors', lambda: by_numpy_vectors(v, np.float32(0.95)))
            assert abs(ours - theirs) <= 1e-4 * theirs + 2, (ours, theirs)
        for what, peers in (('hashes', ('faiss', 'numpy')), ('vectors', ('numpy',))):
            least = s.least(what).cpu
            print(f'50,000 {what}: {least:.3f} s' + ''.join(
                f', {p} {s.least(p + " " + what).cpu:.3f} s ({s.least(p + " " + what).cpu / least:.1f} times as long)' for p in peers), flush=True)


def memory(s):
    """MB of the process beyond what it shares, at most since the last call."""
    with open(f'/proc/{s.pid}/status') as f:
        status = dict(line.split(':', 1) for line in f)
    shared = int(status['RssShmem'].split()[0]) + int(status['RssFile'].split()[0])
    most = (int(status['VmHWM'].split()[0]) - shared) / 1024
    with open(f'/proc/{s.pid}/clear_refs', 'w') as f:
        f.write('5')
    return most


def large(rng):
    with Side() as s:
        put(s, 'h', 'bigint', hashes(1_000_000, rng))
        for isa in ('auto', 'avx2', 'portable'):
            s.db.execute(f"SET millrace.isa = '{isa}'")
            memory(s)
            n = s.clock('h' + isa, lambda: s.one('SELECT count(*) FROM h, millrace.hash_pairs(h.a, 10)'))
            print(f'1,000,000 hashes, {isa}: {n} pairs, {s.least("h" + isa).cpu:.1f} s, {memory(s):.0f} MB', flush=True)
    with Side() as s:
        put(s, 'v', 'real', vectors(200_000, 64, rng))
        for isa in ('auto', 'avx2', 'portable'):
            s.db.execute(f"SET millrace.isa = '{isa}'")
            memory(s)
            n = s.clock('v' + isa, lambda: s.one('SELECT count(*) FROM v, millrace.embedding_pairs(v.a, 64, 0.95)'))
            print(f'200,000 vectors of 64, {isa}: {n} pairs, {s.least("v" + isa).cpu:.1f} s, {memory(s):.0f} MB', flush=True)


def one_image(n, rng):
    schema = 'bench_' + uuid.uuid4().hex[:8]
    images = []
    for _ in range(60):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((320, 240), Image.BICUBIC).save(out, 'JPEG')
        images.append(out.getvalue())
    with Side() as s:
        s.db.execute(f"SELECT millrace.create_pipeline('datasets', '{schema}')")
        try:
            s.db.execute(f"SELECT {schema}.create_dataset('d')")
            s.db.execute(f"INSERT INTO {schema}.images (dataset, split, path, since) SELECT 'd', 'train', i || '.jpg', 1 FROM generate_series(1, {n}) i")
            s.db.execute(f"""INSERT INTO {schema}.facts (image_id, content_sha256, seen_by, pixel_sha256, hashes, entropy)
                SELECT image_id, '', 0, sha256(image_id::text::bytea), ARRAY[('x' || substr(md5(image_id::text), 1, 16))::bit(64)::bigint], 7 FROM {schema}.images""")
            s.db.execute(f"INSERT INTO {schema}.images (dataset, split, path, content) VALUES " + ', '.join(['(%s, %s, %s, %s)'] * len(images)),
                         [x for k, b in enumerate(images) for x in ('d', 'test', f'{k}.jpg', b)])
            s.one(f"SELECT {schema}.measure('d')")
            s.db.execute(f'ANALYZE {schema}.facts; ANALYZE {schema}.hash_blocks; ANALYZE {schema}.images')
            for b in images:
                assert s.clock('check', lambda b=b: s.one(f"SELECT max(reason) FROM {schema}.check_image('d', %s)", b)) == 'same file'
            print(f'check_image, {n} images: {1000 * s.median("check").wall:.1f} ms by the clock, CPU {1000 * s.median("check").cpu:.1f} ms (medians of {len(images)})')
        finally:
            s.one('SELECT millrace.drop_pipeline(%s)', schema)


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument('--rounds', type=int, default=3)
    arg.add_argument('--large', action='store_true')
    arg.add_argument('--image', action='store_true')
    a = arg.parse_args()
    rng = np.random.default_rng(1)
    if not a.large and not a.image:
        small(a.rounds, rng)
    if a.large:
        large(rng)
    if a.image:
        one_image(1_000_000, rng)


if __name__ == '__main__':
    sys.exit(main())
