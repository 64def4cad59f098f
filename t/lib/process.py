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
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)
