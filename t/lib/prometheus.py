"""A real Prometheus that scrapes one address, and what it answers."""
import json
import os
import pathlib
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from .cluster import free_port
from .process import Process

# Debian's package puts them there
PROMETHEUS = shutil.which('prometheus') or '/usr/bin/prometheus'
PROMTOOL = shutil.which('promtool') or '/usr/bin/promtool'


def promtool(*args, stdin=None, cwd=None):
    """(exit status, output)"""
    p = subprocess.run([PROMTOOL, *map(str, args)], input=stdin, text=True, capture_output=True, cwd=cwd, timeout=120)
    return p.returncode, p.stdout + p.stderr


class Prometheus(Process):
    what = 'Prometheus'

    def __init__(self, folder, target, token, rules=None, interval='1s'):
        folder = pathlib.Path(folder).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / 'token').write_text(token)
        (folder / 'prometheus.yml').write_text(json.dumps({         # JSON is YAML
            'global': {'scrape_interval': interval, 'scrape_timeout': interval, 'evaluation_interval': interval},
            'rule_files': [str(pathlib.Path(rules).resolve())] if rules else [],
            'scrape_configs': [{'job_name': 'millrace', 'authorization': {'credentials_file': str(folder / 'token')},
                                'static_configs': [{'targets': [target]}]}]}))
        self.port, self.folder = free_port(), folder

    def __enter__(self):
        self.launch([PROMETHEUS, '--config.file=%s/prometheus.yml' % self.folder, '--storage.tsdb.path=%s/data' % self.folder,
                     '--web.listen-address=127.0.0.1:%d' % self.port, '--log.level=warn'],
                    lambda: self.get('status/runtimeinfo'), 60, str(self.folder / 'log'), env={**os.environ, 'GOMAXPROCS': '1'})
        return self

    def __exit__(self, *exc):
        self.stop()

    def get(self, path, **query):
        """Member data of an answer; what Prometheus refuses raises its words."""
        url = 'http://127.0.0.1:%d/api/v1/%s?%s' % (self.port, path, urllib.parse.urlencode(query))
        try:
            with urllib.request.urlopen(url, timeout=30) as r:
                return json.load(r)['data']
        except urllib.error.HTTPError as e:
            raise ValueError(json.loads(e.read())['error']) from None

    def query(self, expr):
        """{labels as a tuple of pairs, without those of the scrape: value}"""
        return {tuple(sorted((k, v) for k, v in s['metric'].items() if k not in ('job', 'instance', '__name__'))): float(s['value'][1])
                for s in self.get('query', query=expr)['result']}

    def one(self, expr):
        """The value of an expression with one result; None: there is none."""
        found = self.query(expr)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)
