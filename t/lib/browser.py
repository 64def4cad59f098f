"""A browser without a window, driven by chromedriver over HTTP: nothing but the standard library.

    with Browser(folder) as b:              # why_not() says what is missing, or None
        b.open('http://127.0.0.1:8432/')
        b.js('return document.title')
        b.size(390, 844); b.scheme('dark')
        b.console()                         # lines of the console since it was asked last, errors of requests included
        b.picture('page.png')
"""
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request

from lib.cluster import free_port

PROGRAMS = ['chromium', 'chromedriver']


def why_not():
    missing = [p for p in PROGRAMS if not shutil.which(p)]
    return 'no %s (Debian: chromium, chromium-driver)' % ' and no '.join(missing) if missing else None


class BrowserError(Exception):
    pass


class Browser:
    def __init__(self, folder, width=1280, height=900):
        self.folder = os.path.join(os.path.abspath(folder), 'browser')
        self.wanted = (width, height)
        self.driver = self.session = None

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        port = free_port()
        self.log = open(os.path.join(self.folder, 'log'), 'w')
        # its own session: the browser's processes end with it
        self.driver = subprocess.Popen(['chromedriver', '--port=%d' % port], stdout=self.log, stderr=self.log, start_new_session=True,
                                       env={**os.environ, 'HOME': self.folder, 'TMPDIR': self.folder})
        self.base = 'http://127.0.0.1:%d' % port
        try:
            self._ready()
            flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
                     '--disable-dev-shm-usage', '--user-data-dir=' + os.path.join(self.folder, 'profile'), '--window-size=%d,%d' % self.wanted]
            self.session = '/session/' + self.call('POST', '/session', {'capabilities': {'alwaysMatch': {
                'browserName': 'chrome', 'goog:chromeOptions': {'args': flags, 'binary': shutil.which('chromium')}, 'goog:loggingPrefs': {'browser': 'ALL'}}}})['sessionId']
        except BaseException:
            self.__exit__()
            raise
        self.size(*self.wanted)
        return self

    def _ready(self):
        for _ in range(300):
            try:
                return self.call('GET', '/status')
            except OSError:
                time.sleep(0.1)
        raise BrowserError('chromedriver does not answer')

    def __exit__(self, *exc):
        try:
            if self.session:
                self.call('DELETE', self.session)
        except (BrowserError, OSError):
            pass
        self.driver.terminate()
        try:
            self.driver.wait(10)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        self.log.close()
        shutil.rmtree(os.path.join(self.folder, 'profile'), ignore_errors=True)

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=None if body is None else json.dumps(body).encode(), headers={'Content-Type': 'application/json'})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as e:
            raise BrowserError(json.loads(e.read())['value']['message']) from None

    def open(self, url):
        self.call('POST', self.session + '/url', {'url': url})

    def js(self, script, *args):
        return self.call('POST', self.session + '/execute/sync', {'script': script, 'args': list(args)})

    def wait(self, script, *args, timeout=20):
        """Until the script returns something true, which is returned; else, in time, the last value."""
        end = time.monotonic() + timeout
        while True:
            value = self.js(script, *args)
            if value or time.monotonic() > end:
                return value
            time.sleep(0.1)

    def cdp(self, command, **params):
        return self.call('POST', self.session + '/goog/cdp/execute', {'cmd': command, 'params': params})

    def size(self, width, height):
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def scheme(self, name):
        self.cdp('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': name}])

    def type(self, text):
        """Into what has the focus, key by key."""
        self.call('POST', self.session + '/actions', {'actions': [{'type': 'key', 'id': 'keys', 'actions': [
            {'type': kind, 'value': letter} for letter in text for kind in ('keyDown', 'keyUp')]}]})

    def click(self, selector):
        found = self.call('POST', self.session + '/element', {'using': 'css selector', 'value': selector})
        self.call('POST', self.session + '/element/%s/click' % next(iter(found.values())), {})

    def hover(self, selector, x, y):
        """The mouse to a place within an element, counted from its middle."""
        found = self.call('POST', self.session + '/element', {'using': 'css selector', 'value': selector})
        self.call('POST', self.session + '/actions', {'actions': [{'type': 'pointer', 'id': 'mouse', 'parameters': {'pointerType': 'mouse'}, 'actions': [
            {'type': 'pointerMove', 'duration': 0, 'origin': found, 'x': x, 'y': y}]}]})

    def console(self):
        return ['%(level)s %(message)s' % line for line in self.call('POST', self.session + '/se/log', {'type': 'browser'})]

    def picture(self, path, whole=True):
        if whole:
            width, height = self.js('return [innerWidth, Math.min(document.documentElement.scrollHeight, 9000)]')
            self.size(width, height)
        with open(path, 'wb') as f:
            f.write(base64.b64decode(self.cdp('Page.captureScreenshot', format='png')['data']))
