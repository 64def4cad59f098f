"""A private PostgreSQL cluster for tests: nothing outside its own directory is touched.

    from lib.cluster import Cluster, relocate, install
    pg = relocate(dest="tmp/pg")              # copy of PostgreSQL that `make install` may write into
    install(pg)                               # make install of this checkout into the copy
    with Cluster(pg, "tmp/mytest", conf={"shared_preload_libraries": "millrace"}) as c:
        c.psql("CREATE EXTENSION millrace")
        rows = c.psql("SELECT name, state FROM millrace.status()")    # list of tuples of str | None

PostgreSQL refuses to run as root: as root every server program runs as `postgres` (else `nobody`) by setpriv.
Only the standard library is used.  Servers end with their Cluster; nothing is killed by name.
"""
import contextlib
import csv
import io
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
NULL = "\x01NULL\x01"
csv.field_size_limit(1 << 30)


class SqlError(Exception):
    """A statement failed.  sqlstate and message are the server's; str() is all psql said."""

    def __init__(self, text):
        super().__init__(text)
        self.sqlstate, self.message = None, text
        for line in text.splitlines():
            head, _, rest = line.partition("ERROR:  ")
            if not rest:
                head, _, rest = line.partition("FATAL:  ")
            if rest:
                code, _, message = rest.partition(": ")
                if len(code) == 5 and message:
                    self.sqlstate, self.message = code, message
                else:
                    self.message = rest
                break


def unprivileged():
    """Name of the user that servers run as, or None to stay what we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("no unprivileged user to run PostgreSQL as")


def as_user(argv):
    """argv, run as the unprivileged user when we are root."""
    user = unprivileged()
    if user is None:
        return [str(a) for a in argv]
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups",
            *[str(a) for a in argv]]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def find_pg_config():
    """PG_CONFIG of the environment, else the newest server under /usr/lib/postgresql."""
    if os.environ.get("PG_CONFIG"):
        return os.environ["PG_CONFIG"]
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_config"),
                   key=lambda p: int(p.parts[4].split(".")[0]))
    if not found:
        raise RuntimeError("no pg_config found: set PG_CONFIG")
    return str(found[-1])


def relocate(dest, pg_config=None):
    """Copy the PostgreSQL of pg_config to dest (once) and return the copy's pg_config.

    Works because PostgreSQL finds its files relative to its own program.  An installation
    outside /usr is taken as private already and returned as it is.
    """
    pg_config = pathlib.Path(pg_config or find_pg_config()).resolve()
    if not str(pg_config).startswith("/usr/lib/postgresql/"):
        return str(pg_config)
    major = pg_config.parts[4]
    dest = pathlib.Path(dest).resolve()
    copy = dest / "usr/lib/postgresql" / major / "bin/pg_config"
    if not copy.exists():
        for part in ("lib", "share"):
            target = dest / "usr" / part / "postgresql" / major
            shutil.copytree(f"/usr/{part}/postgresql/{major}", target, symlinks=True, dirs_exist_ok=True)
        include = dest / "usr/include/postgresql"
        include.parent.mkdir(parents=True, exist_ok=True)
        if not include.exists():
            include.symlink_to("/usr/include/postgresql")
    open_path(dest)
    return str(copy)


def open_path(path):
    """Let the unprivileged user reach path (mode x on each parent that is ours)."""
    for p in [path, *path.parents]:
        with contextlib.suppress(PermissionError):
            if not p.stat().st_mode & 0o001:
                p.chmod(p.stat().st_mode | 0o011)


def install(pg_config, repo=REPO):
    """`make install` of the checkout into the installation of pg_config."""
    subprocess.run(["make", "-s", "-C", str(repo), f"PG_CONFIG={pg_config}", "install"], check=True,
                   stdout=subprocess.DEVNULL)


class Session:
    """One psql process that stays connected: for transactions that are held open."""

    def __init__(self, argv, env):
        self.mark = 0
        self.proc = subprocess.Popen(argv, env=env, text=True, bufsize=1, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def send(self, sql):
        """Send without waiting; collect() returns the output later."""
        self.mark += 1
        self.proc.stdin.write(f"{sql.rstrip().rstrip(';')};\n\\echo \x02{self.mark}\x02\n")
        self.proc.stdin.flush()

    def collect(self, timeout=60):
        """Output of everything sent so far; raises SqlError on an error, TimeoutError in time."""
        out = []
        timer = threading.Timer(timeout, self.proc.terminate)
        timer.start()
        try:
            while True:
                line = self.proc.stdout.readline()
                if not line:
                    raise TimeoutError(f"session ended or took over {timeout} s: {''.join(out)}")
                if line.strip() == f"\x02{self.mark}\x02":
                    break
                if not line.startswith("\x02"):
                    out.append(line)
        finally:
            timer.cancel()
        text = "".join(out)
        if "ERROR:  " in text or "FATAL:  " in text:
            raise SqlError(text)
        return text.strip("\n")

    def run(self, sql, timeout=60):
        self.send(sql)
        return self.collect(timeout)

    def pid(self):
        return int(self.run("SELECT pg_catalog.pg_backend_pid()"))

    def close(self):
        if self.proc.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.proc.stdin.write("\\q\n")
                self.proc.stdin.close()
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.proc.stdout.close()


class Cluster:
    """initdb, start, stop and SQL of one private cluster in directory `path`.

    conf: settings for postgresql.conf, values as written there but unquoted.
    keep: leave the directory when the context ends.
    """

    def __init__(self, pg_config, path, conf=None, keep=False):
        self.bin = pathlib.Path(pg_config).resolve().parent
        self.path = pathlib.Path(path).resolve()
        self.data = self.path / "data"
        self.sockets = self.path / "s"
        # a socket's path is limited to 107 bytes
        if len(str(self.sockets)) > 80:
            self.sockets = pathlib.Path(f"/tmp/mr_{os.getpid()}_{free_port()}")
        self.log = self.path / "log"
        self.port = free_port()
        self.conf = dict(conf or {})
        self.keep = keep
        self.sessions = []

    # ---- life
    def _own(self, path, mode=0o755):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        user = unprivileged()
        if user:
            os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        open_path(path)

    def initdb(self, *extra):
        self.destroy()
        self._own(self.path)
        self._own(self.sockets)
        subprocess.run(as_user([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                                "--no-locale", "--no-sync", *extra]), check=True, stdout=subprocess.DEVNULL,
                       cwd="/")
        self.write_conf()

    def write_conf(self):
        """Our block at the end of postgresql.conf; called again after self.conf changed."""
        lines = {"port": self.port, "unix_socket_directories": self.sockets, "listen_addresses": "",
                 "shared_buffers": "64MB", "log_line_prefix": "%m [%p] %b %d ", "max_wal_size": "256MB",
                 "log_min_messages": "info", "lc_messages": "C", **self.conf}
        if os.environ.get("MILLRACE_FSYNC"):        # t/run.py: tests kill processes, never the machine
            lines.setdefault("fsync", os.environ["MILLRACE_FSYNC"])
        with open(self.data / "millrace_test.conf", "w") as f:
            for key, value in lines.items():
                f.write("{} = '{}'\n".format(key, str(value).replace("'", "''")))
        main = self.data / "postgresql.conf"
        if "millrace_test.conf" not in main.read_text():
            with open(main, "a") as f:
                f.write("include 'millrace_test.conf'\n")
        (self.data / "millrace_test.conf").chmod(0o644)

    def _pg_ctl(self, *args, check=True, timeout=120):
        return subprocess.run(as_user([self.bin / "pg_ctl", "-D", self.data, *args]), check=check, cwd="/",
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=timeout)

    def start(self, wait=60):
        self._own(self.sockets)
        try:
            self._pg_ctl("-l", self.log, "-w", "-t", wait, "start")
        except subprocess.CalledProcessError:
            raise RuntimeError(f"server did not start:\n{self.logs()[-3000:]}") from None

    def stop(self, mode="fast", wait=60):
        """Stop and return the seconds it took."""
        t = time.monotonic()
        self._pg_ctl("-m", mode, "-w", "-t", wait, "stop")
        return time.monotonic() - t

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def reload(self):
        self._pg_ctl("reload")

    def promote(self):
        self._pg_ctl("-w", "promote")

    def running(self):
        return self.data.exists() and self._pg_ctl("status", check=False).returncode == 0

    def postmaster_pid(self):
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def destroy(self):
        for s in self.sessions:
            s.close()
        self.sessions = []
        if self.running():
            self._pg_ctl("-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def __enter__(self):
        self.initdb()
        self.start()
        return self

    def __exit__(self, *exc):
        if self.keep:
            for s in self.sessions:
                s.close()
            if self.running():
                self.stop("immediate")
        else:
            self.destroy()

    def standby(self, path, conf=None):
        """A streaming standby of this (running) cluster, not started yet."""
        other = Cluster(self.bin / "pg_config", path, conf={**self.conf, **(conf or {})}, keep=self.keep)
        other.destroy()
        other._own(other.path)
        other._own(other.sockets)
        self.program("pg_basebackup", "-D", other.data, "-R", "-c", "fast", "--no-sync", as_server=True)
        other.write_conf()
        return other

    # ---- SQL
    def env(self, **extra):
        e = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {**e, "PGHOST": str(self.sockets), "PGPORT": str(self.port), "PGUSER": "postgres",
                "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "10", **extra}

    def dsn(self, db="postgres", user="postgres"):
        return f"host={self.sockets} port={self.port} dbname={db} user={user}"

    def program(self, name, *args, as_server=False, check=True, timeout=300, **run):
        """A client program of the same version (pg_dump, pg_restore, pgbench); returns its stdout."""
        argv = [self.bin / name, *args]
        done = subprocess.run(as_user(argv) if as_server else [str(a) for a in argv], env=self.env(), text=True,
                              capture_output=True, timeout=timeout, cwd="/", **run)
        if check and done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr}")
        return done.stdout

    def psql(self, sql, db="postgres", user="postgres", timeout=120):
        """Run sql (one or more statements); rows of all results as tuples of str | None."""
        done = subprocess.run([str(self.bin / "psql"), "-Xqt", "--csv", "-v", "ON_ERROR_STOP=1",
                               "-v", "VERBOSITY=verbose", "-P", f"null={NULL}", "-d", db, "-U", user, "-f", "-"],
                              input=sql, env=self.env(), text=True, capture_output=True, timeout=timeout, cwd="/")
        if done.returncode:
            raise SqlError(done.stderr.strip())
        return [tuple(None if v == NULL else v for v in row)
                for row in csv.reader(io.StringIO(done.stdout, newline=""))]

    def value(self, sql, **where):
        """The first column of the first row, or None."""
        rows = self.psql(sql, **where)
        return rows[0][0] if rows else None

    def session(self, db="postgres", user="postgres"):
        s = Session([str(self.bin / "psql"), "-XqAt", "-v", "VERBOSITY=verbose", "-d", db, "-U", user],
                    self.env())
        self.sessions.append(s)
        return s

    def wait_for(self, sql, expect="t", timeout=30, every=0.1, **where):
        """Wait until the first value of sql is `expect`; AssertionError with the last value in time."""
        end = time.monotonic() + timeout
        last = None
        while True:
            try:
                last = self.value(sql, **where)
            except SqlError as e:       # starting up, or killed under our hands: ask again
                last = e
            if last == expect:
                return last
            if time.monotonic() > end:
                raise AssertionError(f"waited {timeout} s for {expect!r}, last {last!r}: {sql}\n{self.logs()[-2000:]}")
            time.sleep(every)

    # ---- looking and hurting
    def logs(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_mark(self):
        """Position in the log; logs_since(mark) returns what was written after it."""
        return self.log.stat().st_size if self.log.exists() else 0

    def logs_since(self, mark):
        with open(self.log, "rb") as f:
            f.seek(mark)
            return f.read().decode(errors="replace")

    def workers(self, db="postgres"):
        """(pid, backend_type) of the processes whose backend_type begins `millrace `."""
        return [(int(p), t) for p, t in self.psql(
            "SELECT pid, backend_type FROM pg_catalog.pg_stat_activity WHERE backend_type LIKE 'millrace %'"
            " ORDER BY 2, 1", db=db)]

    @staticmethod
    def kill(pid, sig=signal.SIGKILL):
        os.kill(pid, sig)
