"""A real MinIO for tests: one server with one disk in a folder of its own, on the loopback interface.

    with Minio(folder) as store:                # builds the server once, starts it
        store.s3.put_object(Bucket=..., Key=..., Body=...)      # a boto3 client
        store.url, store.access_key, store.secret_key
        store.freeze(); store.thaw(); store.kill(); store.start()

The program is $MILLRACE_MINIO, else ~/.cache/millrace/minio-<version>, built there on first use from its Go module
(5 to 6 minutes of processor time; what the build needs on the way, about 2.5 GB, is removed again).  Any Go will do: one
that is too old fetches a newer toolchain, which is a module too.
"""
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

from lib.cluster import free_port
from lib.process import Process, alone
from lib.tap import note, skip_all

VERSION = 'v0.0.0-20260212201848-7aac2a2c5b7c'
GO = 'go1.24.8'                                  # what that version's go.mod asks for


def cached():
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    return os.path.join(base, 'millrace', 'minio-' + VERSION)


def run(argv, env, seconds):
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds)
    if done.returncode:
        raise RuntimeError('%s failed: %s' % (' '.join(argv[:3]), done.stdout[-500:].strip()))
    return done.stdout


def toolchain(go, env):
    """The go program to build with: this one if it is new enough, else that of the toolchain module."""
    have = re.search(r'go(\d+)\.(\d+)', run([go, 'version'], env, 60))
    if have and tuple(map(int, have.groups())) >= (1, 24):
        return go
    cpu = {'x86_64': 'amd64', 'aarch64': 'arm64'}[platform.machine()]
    module = 'golang.org/toolchain@v0.0.1-%s.linux-%s' % (GO, cpu)
    run([go, 'mod', 'download', module], env, 900)
    root = os.path.join(env['GOPATH'], 'pkg', 'mod', module)
    for folder in (os.path.join(root, 'bin'), os.path.join(root, 'pkg', 'tool')):    # a module's files are not executable
        for where, _, names in os.walk(folder):
            for name in names:
                os.chmod(os.path.join(where, name), 0o755)
    env.pop('GOROOT', None)
    return os.path.join(root, 'bin', 'go')


def program():
    """Path of the server program; built on first use.  RuntimeError says why there is none."""
    given = os.environ.get('MILLRACE_MINIO')
    if given or os.path.exists(cached()):
        return given or cached()
    go = shutil.which('go') or shutil.which('go', path='/usr/local/go/bin:/usr/lib/go/bin')
    if not go:
        raise RuntimeError('Go is not installed')
    try:
        with alone(cached()):
            return cached() if os.path.exists(cached()) else build(go)
    except OSError as e:
        raise RuntimeError(str(e)) from e


def build(go):
    folder = tempfile.mkdtemp(prefix='millrace-minio-')
    env = {**os.environ, 'GOPATH': folder + '/go', 'GOCACHE': folder + '/cache', 'GOBIN': folder + '/bin', 'GOFLAGS': '-modcacherw',
           'GOTOOLCHAIN': 'local', 'CGO_ENABLED': '0'}
    try:
        started = time.monotonic()
        run([toolchain(go, env), 'install', '-p', '2', '-trimpath', '-ldflags', '-s -w', 'github.com/minio/minio@' + VERSION], env, 2400)
        aside = '%s.%d' % (cached(), os.getpid())
        shutil.copy(folder + '/bin/minio', aside)
        os.replace(aside, cached())
        note('MinIO built in %.0f s' % (time.monotonic() - started))
    except (subprocess.TimeoutExpired, OSError, KeyError) as e:
        raise RuntimeError(str(e)) from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return cached()


def needed():
    """For a test that is nothing without MinIO: skip it with the reason, or return the program."""
    try:
        import boto3        # noqa: F401
        return program()
    except ImportError:
        skip_all('boto3 is not installed')
    except RuntimeError as e:
        skip_all('MinIO could not be built: %s' % ' '.join(str(e).split())[:300])


class Minio(Process):
    what = 'MinIO'
    access_key, secret_key = 'millrace-tests', 'a secret+of/tests='

    def __init__(self, folder, port=None):
        self.folder = os.path.join(os.path.abspath(folder), 'minio')
        self.port = port or free_port()
        self.endpoint = '127.0.0.1:%d' % self.port
        self.url = 'http://' + self.endpoint

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder + '/disk')
        self.start()
        self.s3 = self.client('s3')
        return self

    def __exit__(self, *exc):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, service, **conf):
        import boto3
        from botocore.config import Config
        return boto3.client(service, **{'endpoint_url': self.url, 'region_name': 'us-east-1', 'aws_access_key_id': self.access_key,
                                        'aws_secret_access_key': self.secret_key, 'config': Config(s3={'addressing_style': 'path'}, max_pool_connections=32), **conf})

    # -- the process ---------------------------------------------------------
    def start(self, timeout=60):
        env = {'PATH': os.environ['PATH'], 'HOME': self.folder, 'MINIO_ROOT_USER': self.access_key, 'MINIO_ROOT_PASSWORD': self.secret_key,
               'MINIO_BROWSER': 'off', 'MINIO_UPDATE': 'off', 'MINIO_CALLHOME_ENABLE': 'off', 'MINIO_SCANNER_SPEED': 'slowest', 'GOMEMLIMIT': '300MiB'}
        self.launch([program(), 'server', '--quiet', '--address', self.endpoint, '--certs-dir', self.folder + '/certs', self.folder + '/disk'],
                    self.ready, timeout, self.folder + '/server.log', env=env, cwd=self.folder)

    def ready(self):
        with urllib.request.urlopen(self.url + '/minio/health/ready', timeout=2):
            pass
