"""TAP for Python tests: ok(condition, name), note(text), skip_all(reason), done()."""
import os
import sys

_count = _failed = 0


def ok(condition, name):
    global _count, _failed
    _count += 1
    _failed += not condition
    print('%s %d - %s' % ('ok' if condition else 'not ok', _count, name), flush=True)
    return bool(condition)


def same(got, expected, name):
    """ok() that shows both sides when they differ."""
    if not ok(got == expected, name):
        note('got      %r' % (got,))
        note('expected %r' % (expected,))
    return got == expected


def note(text):
    for line in str(text).splitlines():
        print('# ' + line, flush=True)


def done():
    print('1..%d' % _count, flush=True)
    sys.exit(1 if _failed else 0)


def skip_all(reason):
    print('ok 1 # SKIP ' + reason)
    print('1..1')
    sys.exit(0)


def data(relative):
    """Path below the real data, or None where it is absent."""
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.environ.get('MILLRACE_DATA') or os.path.join(here, '..', '..', '..', 'shared', 'data')
    path = os.path.join(root, relative)
    return path if os.path.exists(path) else None
