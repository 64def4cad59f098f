#!/usr/bin/env python3
# timeout: 1800
# takes: 120
"""make demo, as a newcomer types it: it ends with the dashboard's address and stays until Ctrl-C; ONCE=1 does not stay.  Full check only.

Builds into tmp/demo of this checkout; the photos are Debian's, fetched once.
"""
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import REPO

if not os.environ.get('MILLRACE_FULL'):
    tap.skip_all('make demo belongs to the full check')


def left_over():
    return subprocess.run(['pgrep', '-f', str(REPO / 'tmp/demo') + '/'], stdout=subprocess.PIPE, text=True).stdout.split()


def environment(**more):
    return {**{k: v for k, v in os.environ.items() if not k.startswith(('PG', 'MAKE', 'MFLAGS', 'KEEP', 'ONCE'))}, **more}


def stays():
    with subprocess.Popen(['make', 'demo'], cwd=REPO, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, start_new_session=True) as p:
        said, address = [], None
        for line in p.stdout:
            said.append(line)
            found = re.search(r'Dashboard: (http://\S+/)', line)
            if found:
                address = found.group(1)
            if address and 'curl' in line:
                break
        if not tap.ok(address, 'make demo tells the address of its dashboard'):
            tap.note(''.join(said)[-3000:])
            return
        tap.ok('airplane' in ''.join(said) and 'latency' in ''.join(said), 'after predictions and views')
        page = urllib.request.urlopen(address, timeout=30).read()
        tap.ok(b'<html' in page and len(page) < 200000, 'the dashboard is there, %d bytes' % len(page))
        time.sleep(6)
        tap.same((p.poll(), urllib.request.urlopen(address + 'health', timeout=30).status), (None, 200), 'and stays')
        os.killpg(p.pid, signal.SIGINT)
        rest = p.stdout.read()
        tap.ok(p.wait(60) in (0, 2, 130, -2), 'Ctrl-C ends it')
        tap.ok('Error' not in rest.replace('Error 130', '') and 'Traceback' not in rest, 'without complaints')
    tap.same(left_over(), [], 'and nothing of it is left')


def ends():
    done = subprocess.run(['make', 'demo'], cwd=REPO, env=environment(ONCE='1'), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=900)
    if not tap.ok(done.returncode == 0 and 'Dashboard' not in done.stdout, 'ONCE=1 ends after the views'):
        tap.note(done.stdout[-3000:])
    tap.same(left_over(), [], 'and leaves nothing')


stays()
ends()
tap.done()
