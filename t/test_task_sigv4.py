"""Signature Version 4 against botocore: random keys, paths, parameters, tokens and times.  Prints TAP."""
import datetime
import os
import random
import subprocess
import sys
from urllib.parse import quote

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    skip_all('botocore is not installed')

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LETTERS = list("abzAZ059-._~/ +%&=?#:@!$'()*,;[]\"<>\\^`{|}") + list('äéß€語🙂')
rng = random.Random(6)


def text(least, most, letters=LETTERS):
    return ''.join(rng.choice(letters) for _ in range(rng.randint(least, most)))


def signed_by_botocore(r):
    """The Authorization header of the peer, for the time given."""
    query = '&'.join('%s=%s' % (quote(k, safe='-_.~'), quote(v, safe='-_.~')) for k, v in r['query'])
    request = AWSRequest(r['method'], 'https://%s%s%s' % (r['host'], quote(r['path'], safe='/-_.~'), '?' + query if query else ''),
                         headers=dict(r['headers']))
    auth = S3SigV4Auth(Credentials(r['access'], r['secret'], r['token'] or None), 's3', r['region'])
    request.context['timestamp'] = datetime.datetime.fromtimestamp(r['time'], datetime.timezone.utc).strftime('%Y%m%dT%H%M%SZ')
    request.context['client_config'] = None
    auth._modify_request_before_signing(request)
    request.headers.replace_header('X-Amz-Content-SHA256', r['payload'])
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    auth._inject_signature_to_request(request, signature)
    return request.headers['Authorization']


requests = []
for i in range(2000):
    requests.append({
        'access': text(16, 20, 'ABCDEFGHIJ0123456789'), 'secret': text(8, 60, LETTERS[:11] + ['+', '=']), 'region': rng.choice(['us-east-1', 'eu-central-1', 'auto', '']) or 'us-east-1',
        'token': '' if i % 3 else text(20, 200, 'abcXYZ/+=09'), 'time': rng.randrange(1, 4102444800), 'method': rng.choice(['GET', 'PUT', 'HEAD', 'DELETE']),
        'host': rng.choice(['127.0.0.1:9000', 'bucket.s3.eu-central-1.amazonaws.com']), 'path': '/' + text(1, 80).lstrip('/'),
        'payload': rng.choice(['UNSIGNED-PAYLOAD', '%064x' % rng.getrandbits(256)]),
        'query': [(text(1, 12), text(0, 20)) for _ in range(rng.choice([0, 0, 1, 4]))],
        'headers': [('content-type', text(1, 30, 'ab/ ;=').strip() or 'a')] if i % 2 else []})
lines = ['\t'.join([r['access'], r['secret'], r['token'], r['region'], str(r['time']), r['method'], r['host'], r['path'], r['payload'], str(len(r['query']))]
                   + [x for pair in r['query'] + r['headers'] for x in pair]) for r in requests]
ours = subprocess.run([os.path.join(ROOT, 'unit', 'bin', 'test_task_sigv4'), '--sign'], input='\n'.join(lines) + '\n', text=True,
                      capture_output=True, check=True).stdout.splitlines()
plain = lambda header: header.replace(', ', ',')
wrong = [(r, o, t) for r, o in zip(requests, ours) for t in [signed_by_botocore(r)] if plain(t) != plain(o.partition('\t')[2])]
ok(len(ours) == len(requests) and not wrong, '%d random requests are signed as botocore signs them' % len(requests))
for r, o, t in wrong[:3]:
    note('%r\nours %s\ntheirs %s' % (r, o, t))
done()
