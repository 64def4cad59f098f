"""A server program that a test starts: up when it answers, frozen and thawed, killed.  Only the process started here is signalled, by pid."""
import contextlib
import fcntl
import os
import signal
import subprocess
import time


@contextlib.contextmanager
def alone(path):
    """Of tests side by side one makes path; who waited looks whether it is there now."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def threads(pid):
    return ['/proc/%d/task/%s/stat' % (pid, t) for t in os.listdir('/proc/%d/task' % pid)]


def state(path):
    """Of a process or a thread, one letter; X: it is gone."""
    try:
        with open(path) as f:
            return f.read().rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return 'X'


class Process:
    what = 'the server'
    process = None

    def launch(self, argv, answers, timeout, log, **popen):
        """Start it, its output into a file, and return when answers() raises nothing."""
        self.log = open(log, 'ab')
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True, **popen)
        end = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise RuntimeError('%s ended with %d; see %s' % (self.what, self.process.returncode, log))
            try:
                return answers()
            except Exception:
                if time.monotonic() > end:
                    self.kill()
                    raise RuntimeError('%s is not up after %d s; see %s' % (self.what, timeout, log)) from None
                time.sleep(0.2)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def freeze(self):
        """Returns when all threads have stopped: the others go on until the one that takes the signal has had its turn."""
        os.kill(self.process.pid, signal.SIGSTOP)
        end = time.monotonic() + 30
        while any(state(task) not in 'TtXZ' for task in threads(self.process.pid)):
            if time.monotonic() > end:
                raise RuntimeError('%s does not stop' % self.what)
            time.sleep(0.001)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)
