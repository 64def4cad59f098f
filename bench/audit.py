#!/usr/bin/env python3
"""An audit of a data set again, after 1 % more images: what it costs of the first, one core.

    bench/audit.py [--images 58000] [--options '{"skip": ["noise"]}'] [--keep]

CIFAR-10's 58,000 JPEGs of 32 pixels as class folders, all checks: a hundredth of them comes in after the first audit.  Then a third audit, of nothing
new.  CPU seconds of the session, and by check those of the clock.  --keep: the pipeline bench_audit stays.  Needs psycopg, numpy.
"""
import argparse
import json
import os
import random
import sys
import tarfile

from common.data import DATA
from common.side import Side


def read(n):
    """{'train/cat/0001.jpg': bytes}, at most n of them."""
    with tarfile.open(DATA / 'cifar10_jpeg.tar.gz') as t:
        files = {m.name.split('/', 1)[1]: t.extractfile(m).read() for m in t if m.isfile()}
    names = sorted(files)
    random.seed(5)
    return {k: files[k] for k in (names if len(names) <= n else random.sample(names, n))}


class Audits:
    def __init__(self, s, schema, options):
        self.s, self.schema, self.options = s, schema, options
        self.steps = {}

    def bring(self, files):
        with self.s.db.cursor().copy(f'COPY {self.schema}.files (dataset, path, content) FROM STDIN (FORMAT binary)') as c:
            c.set_types(['text', 'text', 'bytea'])
            for path, content in files.items():
                c.write_row(('cifar', path, content))
        counts = self.s.clock('import', lambda: self.s.one(f"SELECT {self.schema}.import_files('cifar')"))
        print(f'{len(files)} files imported in {self.s.runs["import"][-1].cpu:.2f} s: {counts}', flush=True)

    def audit(self, name):
        run = self.s.clock(name, lambda: self.s.one(f"SELECT {self.schema}.audit('cifar', %s)", json.dumps(self.options)))
        figures = self.s.one(f'SELECT figures FROM {self.schema}.runs WHERE run_id = %s', run)
        self.steps[name] = figures['seconds']
        print(f'{name}: CPU {self.s.runs[name][-1].cpu:.2f} s, {figures["findings"]}, {figures.get("noise")}', flush=True)

    def table(self):
        names = list(self.steps)
        first = self.s.runs[names[0]][-1].cpu
        print('\n%-12s' % '' + ''.join('%14s' % n for n in names))
        for key in self.steps[names[0]]:
            print('%-12s' % key + ''.join('%14.3f' % self.steps[n].get(key, 0) for n in names))
        print('%-12s' % 'CPU' + ''.join('%14.3f' % self.s.runs[n][-1].cpu for n in names))
        print('%-12s' % 'of the first' + ''.join('%12.2f %%' % (100 * self.s.runs[n][-1].cpu / first) for n in names))


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument('--images', type=int, default=58000)
    arg.add_argument('--options', type=json.loads, default={})
    arg.add_argument('--keep', action='store_true')
    a = arg.parse_args()
    files = read(a.images)
    late = set(random.sample(sorted(files), len(files) // 100))
    schema = 'bench_audit' if a.keep else 'bench_audit_%d' % os.getpid()
    with Side() as s:
        s.db.execute(f"SELECT millrace.create_pipeline('datasets', '{schema}')")
        try:
            t = Audits(s, schema, a.options)
            t.bring({k: v for k, v in files.items() if k not in late})
            t.audit('first')
            t.bring({k: files[k] for k in late})
            t.audit('1 % more')
            t.audit('nothing new')
            t.table()
        finally:
            if not a.keep:
                s.one('SELECT millrace.drop_pipeline(%s)', schema)


if __name__ == '__main__':
    sys.exit(main())
