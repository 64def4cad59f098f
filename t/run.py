"""Run every test and count: the last line is "N passed, N failed" (and skipped).

    t/run.py --bin <PostgreSQL's bin folder> --folder <work folder> [--full] [name …]

Kinds of tests: unit/bin/test_* (server-less, print TAP), sql/*.sql (pg_regress), specs/*.spec
(isolation), t/test_*.py (print TAP; get the environment below).  As many run at a time as there are
cores, and beside them up to three that mostly wait, the longest first.  A test file may say in its
first lines "# timeout: seconds"; "# takes: seconds" where it takes about a minute or more when alone;
"# lane: waits" where it uses less than a third of a core.  Output of each goes to
<folder>/log/<name>.log; the end of it is shown where something failed.
"""
import argparse
import glob
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT_TIMEOUT = 900
TAKES = {'regress': 300, 'isolation': 60}
# What each of the threads runs, and what once there is no more of that.
LANES = [('busy', 'waits')] * min(max(os.cpu_count() or 2, 2), 4) + [('waits', 'busy'), ('waits',), ('waits',)]
SOAK = bool(os.environ.get('MILLRACE_SOAK'))     # make soak: an hour, and what it prints is shown


class Job:
    def __init__(self, name, command, env=None, lane='busy', takes=30, timeout=DEFAULT_TIMEOUT, parse='tap'):
        self.name, self.command, self.env, self.lane, self.takes = name, command, env or {}, lane, takes
        self.timeout, self.parse = timeout, parse


def as_user(command):
    """PostgreSQL refuses to run as root: drop to the user of Debian's package."""
    if os.getuid() != 0:
        return command
    return ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] + command


def count_tap(text):
    ok = len(re.findall(r'^ok\b(?!.*# SKIP)', text, re.M))
    skipped = len(re.findall(r'^ok\b.*# SKIP', text, re.M))
    bad = len(re.findall(r'^not ok\b', text, re.M))
    plan = re.findall(r'^1\.\.(\d+)', text, re.M)
    promised = sum(map(int, plan))
    if not plan or promised != ok + skipped + bad:
        bad += 1                # died in the middle, or asserted nothing
    return ok, bad, skipped


def count_regress(text):
    """pg_regress up to 15 says "test x ... ok"; from 16 on it prints TAP."""
    if re.search(r'^(ok|not ok) ', text, re.M):
        return len(re.findall(r'^ok ', text, re.M)), len(re.findall(r'^not ok ', text, re.M)), 0
    ok = len(re.findall(r'^(?:test )?\s*\S+\s+\.\.\. ok\b', text, re.M))
    bad = len(re.findall(r'\.\.\. FAILED\b', text, re.M))
    return ok, bad, 0


class Runner:
    def __init__(self, args):
        self.args = args
        self.log = os.path.join(args.folder, 'log')
        shutil.rmtree(self.log, ignore_errors=True)
        os.makedirs(self.log)
        self.totals = [0, 0, 0]
        self.lock = threading.Lock()
        self.failed = []
        self.scratch = []

    def header(self, path, key, default):
        with open(path, errors='replace') as f:
            found = re.search(r'^# %s: (\S+)' % key, f.read(2000), re.M)
        return found.group(1) if found else default

    def regress_job(self, kind, tests):
        """One temporary instance for all tests of a kind."""
        pgxs = subprocess.check_output([self.args.bin + '/pg_config', '--pgxs'], text=True).strip()
        test_dir = os.path.join(os.path.dirname(os.path.dirname(pgxs)), 'test')
        program = {'regress': test_dir + '/regress/pg_regress', 'isolation': test_dir + '/isolation/pg_isolation_regress'}[kind]
        out = os.path.join(self.args.folder, kind)
        subprocess.run(['rm', '-rf', out], check=True)
        os.makedirs(out)
        # pg_regress reads its input where it may be private to root: give it a copy.
        for sub in ('sql', 'specs', 'expected', 'data'):
            if os.path.isdir(os.path.join(ROOT, sub)):
                shutil.copytree(os.path.join(ROOT, sub), os.path.join(out, sub))
        config = os.path.join(out, 'temp.conf')
        with open(config, 'w') as f:
            f.write("max_worker_processes = 16\nfsync = off\n")
        if os.getuid() == 0:
            user = pwd.getpwnam('postgres')
            for folder, _, files in os.walk(out):
                for path in [folder] + [os.path.join(folder, n) for n in files]:
                    os.chown(path, user.pw_uid, user.pw_gid)
        # A Unix socket's path must be short.
        socket_folder = tempfile.mkdtemp(prefix='mr')
        self.scratch.append(socket_folder)
        if os.getuid() == 0:
            os.chown(socket_folder, user.pw_uid, user.pw_gid)
        command = [program, '--inputdir=' + out, '--outputdir=' + out, '--bindir=' + self.args.bin,
                   '--temp-instance=' + out + '/instance', '--temp-config=' + config, '--dlpath=' + self.args.bin + '/../lib',
                   '--dbname=regression', '--load-extension=millrace'] + tests
        return Job(kind, as_user(command), {'PG_REGRESS_SOCK_DIR': socket_folder}, takes=TAKES[kind], parse='regress')

    def jobs(self):
        jobs = []
        data = os.environ.get('MILLRACE_DATA', os.path.join(os.path.dirname(ROOT), 'shared', 'data'))
        env = {'MILLRACE_DATA': data, 'PYTHONUNBUFFERED': '1',
               'PG_CONFIG': self.args.bin + '/pg_config', 'MILLRACE_BIN': self.args.bin,
               # gcc 13 and 14 misalign AVX-512 locals on ASan's heap-made stack frames (GCC bug 110027)
               'ASAN_OPTIONS': 'detect_stack_use_after_return=0', 'MILLRACE_FULL': '1' if self.args.full else ''}
        if not self.args.full and not SOAK:         # those measure, too
            env['MILLRACE_FSYNC'] = 'off'
        for path in sorted(glob.glob('unit/bin/test_*')):
            if os.path.exists('unit/%s.c' % os.path.basename(path)):
                jobs.append(Job('unit/' + os.path.basename(path), [path], env, takes=5))
        regress = sorted(os.path.basename(p)[:-4] for p in glob.glob('sql/*.sql'))
        specs = sorted(os.path.basename(p)[:-5] for p in glob.glob('specs/*.spec'))
        if regress and self.wanted('regress'):
            jobs.append(self.regress_job('regress', regress))
        if specs and self.wanted('isolation'):
            jobs.append(self.regress_job('isolation', specs))
        python = [] if self.args.no_python else glob.glob('t/test_*.py')
        for path in sorted(python) + (sorted(glob.glob('t/full_*.py')) if self.args.full else []):
            folder = os.path.join(self.args.folder, os.path.basename(path)[:-3])
            jobs.append(Job(path, [sys.executable, path], dict(env, MILLRACE_TMP=folder), self.header(path, 'lane', 'busy'), int(self.header(path, 'takes', 30)),
                            timeout=7200 if SOAK else int(self.header(path, 'timeout', DEFAULT_TIMEOUT))))
        # of those that do not say what they take, what has the most time first
        return sorted((j for j in jobs if self.wanted(j.name)), key=lambda j: (-j.takes, -j.timeout))

    def wanted(self, name):
        return not self.args.names or any(n in name for n in self.args.names)

    def run(self, job):
        log = os.path.join(self.log, job.name.replace('/', '_') + '.log')
        started = time.time()
        with open(log, 'w') as f:
            process = subprocess.Popen(job.command, stdout=f, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       env=dict(os.environ, **job.env), start_new_session=True)
            try:
                code = process.wait(job.timeout)
            except subprocess.TimeoutExpired:
                # The job's own process group: nothing that we did not start.
                os.killpg(process.pid, 15)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, 9)
                code = 'ran past %d s' % job.timeout
        with open(log, errors='replace') as f:
            text = re.sub(r'\x1b\[[0-9;]*m', '', f.read())     # colours that programs leave behind
        ok, bad, skipped = (count_regress if job.parse == 'regress' else count_tap)(text)
        if code != 0 and bad == 0:
            bad = 1
        with self.lock:
            for i, n in enumerate((ok, bad, skipped)):
                self.totals[i] += n
            print('%-4s %-34s %4d passed%s%s  %.1f s' % ('FAIL' if bad else 'ok', job.name, ok, ', %d failed' % bad if bad else '',
                                                       ', %d skipped' % skipped if skipped else '', time.time() - started), flush=True)
            if SOAK:
                print(text, flush=True)
            for line in re.findall(r'^ok\b.*# SKIP.*$', text, re.M)[:3]:
                print('       ' + line)
            if bad:
                self.failed.append(job.name)
                lines = text.splitlines()
                shown = [l for l in lines if l.startswith('not ok')][:20] + ['…'] + lines[-25:]
                print('\n'.join('       ' + l for l in ['exit: %s' % code] + shown), flush=True)
                diffs = os.path.join(self.args.folder, job.name, 'regression.diffs')
                if os.path.exists(diffs):
                    print(open(diffs, errors='replace').read()[:6000], flush=True)

    def take(self, lanes):
        """The longest that is left, of the first of these lanes that has any."""
        with self.lock:
            job = next((j for lane in lanes for j in self.left if j.lane == lane), None)
            if job:
                self.left.remove(job)
        return job

    def work(self, lanes):
        while job := self.take(lanes):
            self.run(job)

    def main(self):
        os.chdir(ROOT)
        started = time.time()
        jobs = self.jobs()
        self.left = list(jobs)
        threads = [threading.Thread(target=self.work, args=(lanes,)) for lanes in LANES]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for folder in self.scratch:
            shutil.rmtree(folder, ignore_errors=True)
        print('\n%d files in %.0f s%s' % (len(jobs), time.time() - started,
                                          '; failed: ' + ', '.join(self.failed) if self.failed else ''))
        print('%d passed, %d failed%s' % (self.totals[0], self.totals[1],
                                          ', %d skipped' % self.totals[2] if self.totals[2] else ''), flush=True)
        return 1 if self.totals[1] or not self.totals[0] else 0


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--bin', required=True)
    parser.add_argument('--folder', required=True)
    parser.add_argument('--full', action='store_true')
    parser.add_argument('--no-python', action='store_true')
    parser.add_argument('names', nargs='*')
    sys.exit(Runner(parser.parse_args()).main())
