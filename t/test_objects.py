#!/usr/bin/env python3
# timeout: 1800
"""Objects from a real MinIO, announced on a real Kafka: photos by path, 50 of 5,000 broken in eleven ways; uploads; tables as
CSV and JSON lines; a store that hangs (60 s in check-full).  What MinIO cannot be made to do a stub does.  Prints TAP."""
import collections
import concurrent.futures
import csv
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minio
from lib.httpstub import Stub
from lib.stream import create, folder, literal, run
from lib.tap import data, note, ok, same, skip_all

NAME = 'test_objects'
FULL = bool(os.environ.get('MILLRACE_FULL'))
MAX_BYTES = 100000

# What may be wrong with an object: who has it, and what failures says of it.
BROKEN = {
    'missing': ('minio', 'fetch', '58P01'), 'denied': ('minio', 'fetch', '42501'), 'html': ('minio', 'extract', '22023'),
    'empty': ('minio', 'extract', '22023'), 'cut': ('minio', 'extract', '22023'), 'large': ('minio', 'fetch', '54000'),
    'path': ('minio', 'fetch', '22023'), 'drip': ('stub', 'fetch', 'HYT00'), 'truncated-99': ('stub', 'fetch', '08P01'),
    'flaky-99': ('stub', 'fetch', '58000'), 'redirect': ('stub', 'fetch', '08004'),
}
RETRIED = ('HYT00', '08P01', '58000')
ODD = ['a b', 'a+b', '100%', '%41', 'naïve', '写真', 'a&b=c', "it's", 'q?', '#1', 'a;b', '(x)', '~', 'a  b', '[0]', '@:,$', '!*']


def photos(n):
    """n JPEGs of CIFAR-10's test images: (class/name, bytes), classes mixed."""
    archive = data('cifar10_jpeg.tar.gz')
    if not archive:
        skip_all('no real data (cifar10_jpeg.tar.gz)')
    found = []
    with tarfile.open(archive) as t:
        for m in t:
            parts = m.name.split('/')
            if m.isfile() and parts[-3] == 'test':
                found.append((parts[-2] + '/' + parts[-1], t.extractfile(m).read()))
            if len(found) == 2 * n:
                break
    return sorted(found, key=lambda p: p[0].split('/')[1] + p[0])[:n]


def put_all(store, objects):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda o: store.s3.put_object(Bucket='raw-images', Key=o[0], Body=o[1]), objects))


def sql(options):
    return ', '.join("%s %s" % (k, literal(str(v))) for k, v in options.items())


def setup(c, kafka, store, stub):
    """Role app owns two pipelines: one fetches from MinIO, with credentials that may not read secret/, the other from the stub."""
    store.s3.create_bucket(Bucket='raw-images')
    allow = lambda effect, what: {'Effect': effect, 'Action': ['s3:GetObject', 's3:PutObject'], 'Resource': ['arn:aws:s3:::raw-images/' + what]}
    keys = store.client('sts').assume_role(RoleArn='arn:aws:iam::000000000000:role/app', RoleSessionName='app', Policy=json.dumps(
        {'Version': '2012-10-17', 'Statement': [allow('Allow', '*'), allow('Deny', 'secret/*')]}))['Credentials']
    c.psql('SELECT count(*) FROM millrace.install_models(); GRANT millrace_admin, millrace_modeler TO app; GRANT CREATE ON DATABASE postgres TO app')
    for name, options in (('s3', {'url': store.url, 'max_bytes': MAX_BYTES, 'concurrency': 32, 'timeout_ms': 10000, 'max_attempts': 10}),
                          ('stub', {'url': stub.url, 'max_bytes': MAX_BYTES, 'max_attempts': 3, 'backoff_ms': 100, 'timeout_ms': 8000, 'low_speed_ms': 1000})):
        c.psql("CREATE SERVER %s FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', %s); GRANT USAGE ON FOREIGN SERVER %s TO app" % (name, sql(options), name))
    c.psql("CREATE USER MAPPING FOR app SERVER s3 OPTIONS (%s)" % sql(
        {'access_key': keys['AccessKeyId'], 'secret_key': keys['SecretAccessKey'], 'session_token': keys['SessionToken']}))
    c.psql("SELECT millrace.create_outbox('k')", user='app')
    for pipeline, server in (('images', 's3'), ('hostile', 'stub')):
        kafka.create_topic(pipeline + '-input-stream', partitions=4)
        c.psql("SELECT millrace.create_pipeline('images', '%s', '%s')" % (pipeline, json.dumps(
            {'server': 'k', 'images_topic': pipeline + '-input-stream', 'object_server': server, 'bucket': 'raw-images',
             **({'source': {'columns': {'minio_path': 'object_path'}, 'on_conflict': 'update'}} if server == 'stub' else {})})), user='app')


def announce(kafka, pipeline, rows):
    """rows: (image_id, path)."""
    kafka.produce(pipeline + '-input-stream', [(i % 4, name.encode(), json.dumps({'image_id': name, 'minio_path': path}).encode())
                                               for i, (name, path) in enumerate(rows)])


def http_pids(c):
    return [int(r[0]) for r in c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace http'")]


def by_path(c, kafka, store, stub):
    """5,000 messages, 50 of which lead nowhere; the worker is killed on the way."""
    good = photos(4950)
    content = dict(good)
    objects, messages = [], {'images': [], 'hostile': []}
    for i, (name, body) in enumerate(good):
        if i % 99 == 98:
            messages['hostile'].append((name, 'raw-images/photo/%d.jpg' % i))
            content[name] = stub.photo
            continue
        key = '2026/11/21/%s%s' % (ODD[i // 10 % len(ODD)] + '/' if i % 10 == 0 else '', name)
        objects.append((key, body))
        messages['images'].append((name, ('s3://' if i % 7 == 0 else '') + 'raw-images/' + key))
    bodies = {'denied': good[0][1], 'html': b'<!DOCTYPE html><html>Please sign in.</html>', 'empty': b'', 'cut': good[1][1][:600], 'large': bytes(MAX_BYTES + 1)}
    expected = {}
    for i in range(50):
        kind = list(BROKEN)[i % len(BROKEN)]
        where, stage, state = BROKEN[kind]
        name = 'broken %d' % i
        expected[name] = (stage, state)
        key = ('secret/' if kind == 'denied' else '%s/' % kind) + str(i)
        if kind in bodies:
            objects.append((key, bodies[kind]))
        rows = messages['images' if where == 'minio' else 'hostile']
        rows.insert(i * 97 % len(rows), (name, '../etc/passwd' if kind == 'path' else 'raw-images/' + key))
    began = time.monotonic()
    put_all(store, objects)
    note('%.1f s to put the objects' % (time.monotonic() - began))
    same((len(objects), sum(map(len, messages.values()))), (4900 + 25, 5000), '5,000 messages name objects, 4,925 of which lie in MinIO')

    started = time.monotonic()
    for pipeline, rows in messages.items():
        announce(kafka, pipeline, rows)
    c.wait_for('SELECT count(content) > 1000 FROM images.images', timeout=120, user='app')
    pids = http_pids(c)
    for pid in pids:
        c.kill(pid)
    ok(pids, 'the worker is killed on the way (%d of them)' % len(pids))
    for pipeline, predictions in (('images', 3 * 4900), ('hostile', 3 * 50)):
        c.wait_for('SELECT count(*) FROM %s.predictions' % pipeline, expect=str(predictions), timeout=300, user='app')
    c.wait_for('SELECT (SELECT count(*) FROM images.failures) + (SELECT count(*) FROM hostile.failures)', expect='50', timeout=60, user='app')
    c.wait_for('SELECT count(*) FROM millrace.http_requests', expect='0', timeout=60)
    note('%.1f s from the first message to the last prediction' % (time.monotonic() - started))
    both = lambda what, table: [r for p in messages for r in c.psql('SELECT %s FROM %s.%s' % (what, p, table))]
    predicted = collections.Counter(r[0] for r in both('image_id', 'predictions'))
    same({n for n, k in predicted.items() if k == 3} ^ set(content), set(), 'each of the 4,950 is predicted by every profile, although the worker was killed')
    # the kill may have ended the last attempt of one that is tried three times: then that is its reason
    cut_off = {r[0] for r in both('image_id', "failures WHERE sqlstate = '58000' AND message LIKE '%ended with their worker%'")}
    reasons = {r[0]: expected[r[0]] if r[0] in cut_off and expected[r[0]][1] in RETRIED else (r[1], r[2]) for r in both('image_id, stage, sqlstate', 'failures')}
    same(reasons, expected, 'the 50 broken ones are in failures, each with its reason')
    same(len(both('1', 'failures')), 50, 'once each')
    for row in both('DISTINCT ON (sqlstate, stage) stage, sqlstate, message', 'failures'):
        note('%s %s %s' % row)
    same({r[0] for r in both("image_id", "images WHERE content IS NOT NULL")} - set(expected) ^ set(content), set(), 'no photo is without its bytes')
    wrong = [name for name, sha in both("image_id, encode(sha256(content), 'hex')", 'images WHERE content IS NOT NULL')
             if name in content and sha != hashlib.sha256(content[name]).hexdigest()]
    same(wrong, [], 'and those bytes are the objects\', under keys with spaces, +, %, UTF-8 too')
    same(c.value('SELECT count(*) FROM millrace.http_failures'), '0', 'nobody remained untold')
    tries = collections.defaultdict(int)         # the most of any: a killed worker's attempt may not have left it
    for path, n in stub.paths().items():
        tries[path.split('/')[2]] = max(n, tries[path.split('/')[2]])
    same({k: n for k, n in tries.items() if k != 'photo'}, {'drip': 3, 'truncated-99': 3, 'flaky-99': 3, 'redirect': 1},
         'what may pass is tried three times, what will not once; a redirection is not followed')

    # what was missing appears, and is asked for again; an object is replaced, and announced again
    missing = next(n for n, e in expected.items() if e[1] == '58P01')
    path = c.value("SELECT object_path FROM images.images WHERE image_id = %s" % literal(missing), user='app')
    store.s3.put_object(Bucket='raw-images', Key=path.partition('/')[2], Body=good[7][1])
    waiting = int(c.value('SELECT images.refetch()', user='app'))
    same(waiting, len([n for n, _ in messages['images'] if expected.get(n, ' ')[0] == 'fetch']), 'refetch() asks again for all that have no bytes')
    c.wait_for('SELECT count(*) FROM millrace.http_requests', expect='0', timeout=60)
    same(c.psql("SELECT count(*) FROM images.predictions WHERE image_id = %s UNION ALL SELECT count(*) FROM images.failures WHERE image_id = %s" % (literal(missing), literal(missing)), user='app'),
         [('3',), ('0',)], 'what has appeared is predicted, and no failure any more')
    name = messages['images'][3][0]
    path = c.value("SELECT object_path FROM images.images WHERE image_id = %s" % literal(name), user='app')
    key = path.removeprefix('s3://').partition('/')[2]
    store.s3.put_object(Bucket='raw-images', Key=key, Body=good[9][1])
    c.psql("SELECT images.refetch(%s)" % literal(name), user='app')
    c.wait_for("SELECT encode(sha256(content), 'hex') FROM images.images WHERE image_id = %s" % literal(name), expect=hashlib.sha256(good[9][1]).hexdigest())
    name = messages['hostile'][2][0]
    announce(kafka, 'hostile', [(name, 'raw-images/missing/gone.jpg')])
    c.wait_for("SELECT sqlstate FROM hostile.failures WHERE stage = 'fetch' AND image_id = %s" % literal(name), expect='58P01', user='app')
    same(c.psql("SELECT object_path, content IS NOT NULL, (SELECT count(*) FROM hostile.predictions p WHERE p.image_id = i.image_id) FROM hostile.images i WHERE image_id = %s" % literal(name), user='app'),
         [('raw-images/missing/gone.jpg', 'f', '3')], 'announced again under a path where nothing is: the failure is told, predictions stay')
    announce(kafka, 'hostile', [(name, 'raw-images/photo/again.jpg')])
    c.wait_for("SELECT count(*) FROM hostile.images i WHERE image_id = %s AND content IS NOT NULL AND NOT EXISTS (SELECT FROM hostile.failures f WHERE f.image_id = i.image_id)"
               % literal(name), expect='1', user='app')


def uploads(c, kafka, store, stub):
    """Upload -> object -> topic -> fetch -> predictions, by somebody who may do no more than that."""
    c.psql("GRANT USAGE ON SCHEMA images, hostile TO uploader; GRANT EXECUTE ON FUNCTION images.upload(bytea, text), hostile.upload(bytea, text) TO uploader", user='app')
    taken = photos(300)
    ids = ['up %d %s' % (i, ODD[i % len(ODD)]) for i in range(len(taken))]
    statements = ["SELECT images.upload('\\x%s', %s);" % (body.hex(), literal(i)) for i, (_, body) in zip(ids, taken)]
    paths = [r[0] for r in c.psql('\n'.join(statements), user='uploader')]
    same(paths, [time.strftime('raw-images/%Y/%m/%d/', time.gmtime()) + i + '.jpg' for i in ids], 'uploads are named raw-images/yyyy/mm/dd/<id>.jpg')
    rolled = c.session(user='uploader')
    rolled.run('BEGIN; ' + statements[0].replace('up 0', 'never') + ' ROLLBACK')
    rolled.close()
    c.wait_for("SELECT count(*) FROM images.predictions WHERE image_id LIKE 'up %'", expect=str(3 * len(ids)), timeout=120, user='app')
    same(sorted(o['Key'] for o in store.s3.list_objects_v2(Bucket='raw-images', Prefix=time.strftime('%Y/%m/%d/up', time.gmtime()))['Contents']),
         sorted(p.partition('/')[2] for p in paths), 'the objects are in MinIO')
    got = store.s3.get_object(Bucket='raw-images', Key=paths[1].partition('/')[2])
    same((got['ContentType'], got['Body'].read()), ('image/jpeg', taken[1][1]), 'with their bytes and their type')
    announced = [json.loads(v) for _, _, _, v in kafka.read_all('images-input-stream')]
    same(sorted((m['image_id'], m['minio_path']) for m in announced if m['image_id'].startswith('up ')), sorted(zip(ids, paths)), 'each is announced once')
    same([m for m in announced if m['image_id'].startswith('never')], [], 'an upload that was rolled back never')
    c.psql("SELECT hostile.upload('\\x%s', 'error up')" % taken[0][1].hex(), user='uploader')
    c.wait_for("SELECT count(*) FROM hostile.predictions WHERE image_id = 'error up'", expect='3', user='app')
    same(c.psql("SELECT stage, sqlstate FROM hostile.failures WHERE image_id = 'error up'", user='app'), [('upload', '58P01')], 'a photo that the store does not take is not lost: it is predicted, and the reason kept')


def tables(c, kafka, store, stub):
    """Weekly deliveries of the tabular pipeline as objects: CSV and JSON lines, with bad rows; again; and what is not there."""
    store.s3.create_bucket(Bucket='deliveries')
    store_it = lambda key, text: store.s3.put_object(Bucket='deliveries', Key=key, Body=text.encode())
    c.psql("CREATE SERVER lake FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', %s); GRANT USAGE ON FOREIGN SERVER lake TO app; CREATE USER MAPPING FOR app SERVER lake OPTIONS (%s)"
           % (sql({'url': store.url}), sql({'access_key': store.access_key, 'secret_key': store.secret_key})))
    q = lambda statement: c.psql(statement, user='app')
    q("SELECT millrace.create_pipeline('tabular', 'things', '%s')" % json.dumps(
        {'columns': 'id bigint, seen timestamptz, x real, y real, colour text, kind text', 'key': 'id', 'time': 'seen', 'target': 'kind', 'start': '2026-03-02 00:00:00+00',
         'features': ['x', 'y', 'x - y AS x_y', 'colour'], 'candidates': [{'algorithm': 'random_forest', 'options': {'n_estimators': 20}}]}))

    def row(i, week):
        x, y, colour = (i * 7919 % 1000) / 1000, (i * 104729 % 1000) / 1000, ('red', 'green', 'blue, dark')[i % 3]
        return {'id': i, 'seen': '2026-03-%02dT%02d:00:00Z' % (2 + 7 * week + i % 7, i % 24), 'x': x, 'y': y, 'colour': colour, 'kind': 'up' if x > y else 'down'}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(row(0, 0)))
    writer.writeheader()
    for i in range(1000):
        writer.writerow(dict(row(i, 0), **({'seen': 'never'} if i == 500 else {})))
    store_it('weeks/week 1 (März).csv', text.getvalue())
    store_it('weeks/2+.jsonl', '\n'.join(json.dumps(row(i, 1)) for i in range(1000, 2000)) + '\n{"id": 1, \n')
    for _ in range(2):
        q("SELECT things.load_object('lake', 'deliveries/weeks/week 1 (März).csv'), things.load_object('lake', 'deliveries/weeks/2+.jsonl', 'json')")
        c.wait_for("SELECT count(*) FROM things.loads WHERE state = 'waiting'", expect='0', user='app')
    same(q('SELECT path, state, rows_read, rows_loaded, rows_known, rows_bad FROM things.loads ORDER BY load_id'),
         [('deliveries/weeks/week 1 (März).csv', 'done', '1000', '999', '0', '1'), ('deliveries/weeks/2+.jsonl', 'done', '1001', '1000', '0', '1'),
          ('deliveries/weeks/week 1 (März).csv', 'done', '1000', '0', '999', '1'), ('deliveries/weeks/2+.jsonl', 'done', '1001', '0', '1000', '1')],
         'a CSV and JSON lines become rows; loaded again they change nothing')
    same(q('SELECT load_id, line, sqlstate FROM things.load_failures ORDER BY 1'), [('1', '502', '22007'), ('2', '1001', '22P02'), ('3', '502', '22007'), ('4', '1001', '22P02')],
         'a bad row is set aside with its line and its reason')
    q("SELECT things.load_object('lake', 'deliveries/none.csv'), things.load_object('stub', 'deliveries/photo/1')")
    c.wait_for("SELECT count(*) FROM things.loads WHERE state = 'waiting'", expect='0', user='app')
    same(q("SELECT path, state, sqlstate FROM things.loads WHERE load_id > 4 ORDER BY load_id"), [('deliveries/none.csv', 'failed', '58P01'), ('deliveries/photo/1', 'failed', '22021')],
         'an object that is not there, or is something else, is a failed load')
    q('SELECT count(*) FROM things.catch_up()')
    same(q('SELECT rows_raw FROM things.runs ORDER BY period LIMIT 2'), [('999',), ('1000',)], 'the weeks run')

    same([k for k in (store.secret_key, store.access_key) if k in c.logs()], [], 'no key is in the log')

    path = data('sdss17/star_classification.csv')
    if not path:
        note('no real data (sdss17): not loaded')
        return
    whole = open(path, 'rb').read()
    store.s3.put_object(Bucket='deliveries', Key='sdss17.csv', Body=whole)
    q("SELECT millrace.create_pipeline('tabular', 'stars', '%s')" % json.dumps(
        {'columns': 'spec_obj_ID text, alpha float8, u float8, g float8, r float8, redshift float8, class text', 'key': 'spec_obj_id', 'target': 'class',
         'features': ['u', 'g', 'r', 'redshift'], 'schedule': False}))
    started = time.monotonic()
    q("SELECT stars.load_object('lake', 'deliveries/sdss17.csv', options => '{\"columns\": {\"alpha\": \"alpha\", \"obj_ID\": \"spec_obj_id\"}, \"max_bad\": 0}')")
    c.wait_for("SELECT state FROM stars.loads", expect='done', timeout=60, user='app')
    rows = list(csv.DictReader(io.StringIO(whole.decode())))
    note('%d rows, %.1f MB: %.1f s' % (len(rows), len(whole) / 1e6, time.monotonic() - started))
    first = {}
    for r in rows:
        first.setdefault(r['obj_ID'], r)
    same(q('SELECT rows_read, rows_loaded, rows_bad FROM stars.loads'), [(str(len(rows)), str(len(first)), '0')], 'SDSS17 as one object')
    got = {r[0]: r[1:] for r in q('SELECT spec_obj_id, u, redshift, class FROM stars.raw')}
    same([k for k, r in first.items() if (float(got[k][0]), float(got[k][1]), got[k][2]) != (float(r['u']), float(r['redshift']), r['class'])], [], 'with the values of the file')


def hang(c, kafka, store, stub):
    """The store stops answering while every place is taken: others neither wait nor pile up."""
    seconds = 60 if FULL else 8
    n, rate = 2000, 2000
    c.psql("CREATE TABLE ticks (n bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())", user='app')
    kafka.create_topic('ticks', partitions=2)
    create(c, 'ticks', 'ticks', 'ticks')
    taken = photos(n)
    put_all(store, [('hung/' + name, body) for name, body in taken])
    over = threading.Event()

    def tick():
        producer, sent, began = kafka.producer(), 0, time.monotonic()
        while not over.is_set():
            for _ in range(int((time.monotonic() - began) * rate) - sent):
                producer.produce('ticks', value=b'{"n": %d}' % sent, partition=sent % 2)
                sent += 1
            producer.poll(0)
            time.sleep(0.01)
        producer.flush(30)
    thread = threading.Thread(target=tick)
    thread.start()

    def watch(seconds):
        """Rows a second, and the seconds after which a transaction was still open that had begun three seconds before."""
        first, began, marks = int(c.value('SELECT count(*) FROM ticks')), time.monotonic(), []
        while time.monotonic() - began < seconds:
            time.sleep(1)
            marks.append(tuple(map(int, c.psql('SELECT pg_snapshot_xmin(pg_current_snapshot())::text, pg_current_xact_id()::text')[0])))
        stuck = [i for i, (before, now) in enumerate(zip(marks, marks[3:])) if now[0] < before[1]]
        return (int(c.value('SELECT count(*) FROM ticks')) - first) / (time.monotonic() - began), stuck
    try:
        time.sleep(2)
        before, stuck = watch(5)
        same(stuck, [], 'before: the oldest transaction moves on')
        store.freeze()
        try:
            announce(kafka, 'images', [('hung ' + name, 'raw-images/hung/' + name) for name, _ in taken])
            c.wait_for("SELECT count(*) FROM images.images WHERE image_id LIKE 'hung %'", expect=str(n), timeout=60, user='app')
            time.sleep(1)
            flying = c.value("SELECT in_flight FROM millrace.stat_http WHERE server = 's3'")
            during, stuck = watch(seconds)
            inside = int(c.value("SELECT count(*) FROM images.images WHERE image_id LIKE 'hung %' AND content IS NOT NULL", user='app'))
        finally:
            store.thaw()
        note('rows a second of the other source: %.0f before, %.0f while the store hung for %d s' % (before, during, seconds))
        same(flying, '32', 'every place is taken')
        same(stuck, [], 'while the store hangs the oldest transaction moves on')
        ok(during >= 0.8 * before, 'and another source keeps its rate')
        same(inside, 0, 'meanwhile nothing was fetched')
    finally:
        over.set()
        thread.join()
    c.wait_for("SELECT count(*) FROM images.predictions WHERE image_id LIKE 'hung %'", expect=str(3 * n), timeout=180, user='app')
    same(c.value("SELECT count(*) FROM images.failures WHERE image_id LIKE 'hung %'", user='app'), '0', 'then all of it, without a failure')


minio.needed()
with minio.Minio(folder(NAME)) as store, Stub() as stub:
    stub.photo = photos(1)[0][1]
    run(NAME, (by_path, uploads, tables, hang), extra=(store, stub), killed=True,
        setup=lambda c, kafka: (c.psql('CREATE ROLE uploader LOGIN'), setup(c, kafka, store, stub)))
