"""The pipelines' routes through the real gateway: photos of CIFAR-10 and objects of a real MinIO, photos for a detector, rows of SDSS17, questions to provider local,
texts.  Each route answers as its table says, each error as its status; what SQL says is what HTTP said; a role sees its own.
    test_gateway_pipelines.py [images | store | datasets | answers | events | tabular]
"""
# timeout: 600
# takes: 60
import csv
import json
import os
import struct
import sys
import tarfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minio, tap
from lib.gateway import Door, Events
from lib.stream import clean_log, folder, literal
from lib.web import Web, gateway, multipart, token, until

NAME = 'test_gateway_pipelines'
CIFAR, PHOTOS, YOLO, STARS = (tap.data(x) for x in ('cifar10_jpeg.tar.gz', 'photos', 'models/yolov8n_dequant_fp32.onnx', 'sdss17/star_classification.csv'))
FAULT = {'code', 'message', 'details', 'hint'}

SETUP = """
    SELECT count(*) FROM millrace.install_models();
    CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler;
    GRANT CREATE ON DATABASE postgres TO mill;
    CREATE ROLE web; CREATE ROLE other; CREATE ROLE stranger; CREATE ROLE watcher IN ROLE millrace_monitor;
    GRANT mill TO postgres;
"""


def fault(got, status, part, name):
    """An answer that is an error, in the shape all have, without a word of ours that is not meant for clients."""
    said = got[1] if isinstance(got[1], dict) else {}
    if not tap.ok(got[0] == status and set(said) == FAULT and part in (said['message'] or '') + (said['hint'] or ''), '%s: %s, %s' % (name, status, said.get('message'))):
        tap.note(repr(got)[:600])


def mill(c, sql):
    return c.psql(sql, user='mill')


def photo_part(content, name='photo.jpg'):
    return ('file', name, 'image/jpeg', content)


def cifar(n):
    with tarfile.open(CIFAR) as t:
        found = []
        for m in t:
            if m.isfile() and m.name.split('/')[-3] == 'test':
                found.append(t.extractfile(m).read())
                if len(found) == n:
                    return found


def size(jpeg):
    """Width and height of a JPEG."""
    at = 2
    while at < len(jpeg):
        marker, length = struct.unpack('>HH', jpeg[at:at + 4])
        if 0xffc0 <= marker <= 0xffc2:
            height, width = struct.unpack('>HH', jpeg[at + 5:at + 9])
            return width, height
        at += 2 + length
    return None


def health(c, port, pipeline, name, status=200, **members):
    got = Web(port).get('/%s/health' % pipeline)
    if not tap.ok(got[0] == status and got[1]['status'] == ('healthy' if status == 200 else 'unhealthy') and (got[1]['reasons'] == []) == (status == 200)
                  and set(got[1]) >= {'model_path', 'model_loaded', 'reasons'} and all(got[1][k] == v for k, v in members.items()), name):
        tap.note(got)
    return got[1]


def metrics(c, w, path):
    fault(w.get(path + '/metrics'), 403, 'millrace_monitor', path + '/metrics by a role that may not')
    mill(c, 'GRANT USAGE ON SCHEMA %s TO watcher' % path[1:])
    w = Web(w.port, token(c, 'watcher'))
    status, text, headers = w.raw('GET', path + '/metrics')
    as_json = w.ask('GET', path + '/metrics', headers={'Accept': 'application/json'})
    tap.ok(status == 200 and b'# TYPE' in text and headers['Content-Type'].startswith('text/plain') and as_json[0] == 200 and isinstance(as_json[1], dict),
           '%s/metrics: Prometheus text, or JSON (%s %s %s, %s %s)' % (path, status, text[:100], headers['Content-Type'], *as_json[:2]))


def images(c, port):
    mill(c, "SELECT millrace.create_pipeline('images')")
    mill(c, "GRANT USAGE ON SCHEMA images TO web, other; GRANT EXECUTE ON FUNCTION images.http_upload, images.http_extract, images.http_extract_poll, images.http_extraction TO web;"
            "GRANT SELECT ON images.predictions, images.failures, images.descriptors, images.images TO web, other")
    web, other, stranger = (Web(port, token(c, r)) for r in ('web', 'other', 'stranger'))
    photos = cifar(3)

    status, up = web.form('/images/upload', [photo_part(photos[0])])
    tap.ok(status == 201 and set(up) == {'image_id', 'object_path'} and up['object_path'] is None, 'an upload: 201')
    status, seen = web.get('/images/predictions/' + up['image_id'])
    rows = {p['profile']: p for p in seen['predictions']}
    tap.same((status, seen['image_id'], seen['status'], sorted(rows)), (200, up['image_id'], 'done', ['accurate', 'balanced', 'fast']), 'its predictions are there when the answer is')
    stored = {r[0]: r[1:] for r in c.psql("SELECT profile, label, confidence, model, classify_ms FROM images.predictions WHERE image_id = '%s'" % up['image_id'])}
    tap.ok(all((p['label'], p['model']) == (stored[n][0], stored[n][2]) and abs(p['confidence'] - float(stored[n][1])) < 1e-6 and p['latency_ms'] == float(stored[n][3]) for n, p in rows.items()),
           'they are those of the table')
    tap.same(c.value("SELECT content = '\\x%s' FROM images.images WHERE image_id = '%s'" % (photos[0].hex(), up['image_id'])), 't', 'the photo is stored byte by byte')
    tap.same(c.value("SELECT source FROM images.images WHERE image_id = '%s'" % up['image_id']), 'http:web', 'with whose request it was')
    name = 'my cat/ä %2F?'
    tap.same(web.form('/images/upload', [photo_part(photos[1]), ('image_id', None, None, name.encode())]), (201, {'image_id': name, 'object_path': None}), 'under an id of its own, odd as it may be')
    tap.same(web.get('/images/predictions/' + ''.join('%%%02x' % b for b in name.encode()))[1]['status'], 'done', 'which finds it')
    tap.same(web.form('/images/upload', [photo_part(photos[1]), ('image_id', None, None, name.encode())])[0], 201, 'the same again changes nothing')
    fault(web.form('/images/upload', [photo_part(photos[2]), ('image_id', None, None, name.encode())]), 409, 'another image', 'another photo of that id')
    tap.same(c.value('SELECT count(*) FROM images.images'), '2', 'and two are stored')
    for what, content, reason in (('text', b'no photo', 'neither JPEG nor PNG'), ('torn', photos[2][:300], ''), ('empty', b'', 'empty')):
        tap.same(web.form('/images/upload', [photo_part(content), ('image_id', None, None, what.encode())])[0], 201, 'a broken photo (%s) is taken' % what)
        got = web.get('/images/predictions/' + what)
        tap.ok(got[0] == 200 and got[1]['status'] == 'failed' and got[1]['predictions'] == [] and reason in got[1]['reason'], 'and failed: %s' % got[1].get('reason'))
    fault(web.form('/images/upload', [('image_id', None, None, b'x')]), 400, 'file', 'no file')
    fault(web.post('/images/upload', {'file': '\\x00'}), 415, '', 'JSON where a form is wanted')
    fault(web.get('/images/predictions/nobody'), 404, 'no image', 'an image that is not there')
    tap.same(web.raw('GET', '/images/upload')[0], 405, 'another method')

    # descriptors of a file, and classes of descriptors
    status, got = web.form('/images/extract', [photo_part(photos[0])])
    same = [float(x) for x in json.loads(c.value("SELECT to_json(descriptors) FROM images.descriptors WHERE image_id = '%s'" % up['image_id']))]
    tap.ok(status == 200 and got['image_id'] is None and got['descriptor_count'] == 20 and got['descriptors'] == same, '20 descriptors of a file, those that are stored')
    fault(web.form('/images/extract', [photo_part(b'no photo')]), 400, 'neither JPEG nor PNG', 'descriptors of what is no photo')
    fault(web.post('/images/extract', {'image_id': 'x'}), 400, 'minio_path', 'neither file nor path')
    fault(web.post('/images/extract', {'minio_path': 'raw-images/x'}), 400, 'no object server', 'a path without a store')
    for profile in (None, 'fast', 'balanced', 'accurate'):
        status, got = web.post('/images/predict', {'descriptors': same, **({'profile': profile} if profile else {})})
        want = rows[profile or 'balanced']
        tap.ok(status == 200 and set(got) == {'label', 'confidence', 'model', 'latency_ms'} and (got['label'], got['model']) == (want['label'], want['model']) and
               abs(got['confidence'] - want['confidence']) < 1e-6 and 0 < got['latency_ms'] < 1000, 'POST /predict, profile %s: %s in %s ms' % (profile, got.get('label'), got.get('latency_ms')))
    fault(web.post('/images/predict', {'descriptors': same, 'profile': 'best'}), 400, 'accurate, balanced, fast', 'a profile that there is not')
    for what, body, part in (('too few', {'descriptors': [1, 2]}, 'takes 20'), ('none', {'descriptors': []}, 'takes 20'), ('null', {'descriptors': None}, 'null'), ('words', {'descriptors': ['a'] * 20}, 'real'),
                             ('a table', {'descriptors': [[1] * 20]}, 'dimension'), ('huge ones', {'descriptors': [1e300] * 20}, 'range'), ('an unknown member', {'descriptors': same, 'x': 1}, 'x'),
                             ('nothing', {}, 'descriptors')):
        fault(web.post('/images/predict', body), 400, part, 'descriptors that are %s' % what)
    mill(c, "UPDATE images.profiles SET model = 'nobody' WHERE profile = 'fast'")
    fault(web.post('/images/predict', {'descriptors': same, 'profile': 'fast'}), 503, 'nobody', 'a profile whose model is gone')
    health(c, port, 'images', 'and the pipeline is not healthy', 503, model_loaded=False)
    mill(c, "UPDATE images.profiles SET model = 'cifar10_fast@champion' WHERE profile = 'fast'")
    mill(c, "SELECT millrace.promote_model('cifar10_fast', 1)")
    tap.same(web.post('/images/predict', {'descriptors': same, 'profile': 'fast'})[0], 200, 'what an alias stands for is noticed at once')
    health(c, port, 'images', 'healthy, without a token', model_path='cifar10_pca20:1', model_loaded=True)
    metrics(c, web, '/images')

    # rights
    tap.same(Web(port).post('/images/predict', {'descriptors': same})[0], 401, 'without a token')
    fault(other.form('/images/upload', [photo_part(photos[0])]), 403, 'permission denied', 'an upload by a role that may not')
    fault(stranger.post('/images/predict', {'descriptors': same}), 403, 'permission denied', 'a role without USAGE')
    fault(stranger.get('/images/predictions/' + up['image_id']), 403, 'permission denied', 'which sees nothing')
    tap.same(other.get('/images/predictions/' + up['image_id'])[0], 200, 'a role that may see them sees predictions')
    mill(c, "ALTER TABLE images.predictions ENABLE ROW LEVEL SECURITY; ALTER TABLE images.images ENABLE ROW LEVEL SECURITY; ALTER TABLE images.descriptors ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON images.images FOR SELECT USING (source = 'http:' || current_user); CREATE POLICY own ON images.descriptors FOR SELECT USING (source = 'http:' || current_user);"
            "CREATE POLICY own ON images.predictions FOR SELECT USING (EXISTS (SELECT FROM images.images i WHERE i.image_id = predictions.image_id))")
    tap.same(web.get('/images/predictions/' + up['image_id'])[0], 200, 'with policies: its own')
    fault(other.get('/images/predictions/' + up['image_id']), 404, 'no image', 'and not those of another')
    return photos


def store(c, port):
    """Objects of MinIO: put by an upload, fetched by a path."""
    minio.needed()
    photos = cifar(3)
    with minio.Minio(folder(NAME)) as s:
        s.s3.create_bucket(Bucket='raw-images')
        s.s3.create_bucket(Bucket='secrets')
        s.s3.put_object(Bucket='raw-images', Key='given/a b.jpg', Body=photos[0])
        s.s3.put_object(Bucket='raw-images', Key='given/text.jpg', Body=b'no photo')
        s.s3.put_object(Bucket='secrets', Key='a.jpg', Body=photos[0])
        c.psql("CREATE SERVER s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url '%s', max_attempts '3', backoff_ms '50'); GRANT USAGE ON FOREIGN SERVER s3 TO mill; "
               "CREATE USER MAPPING FOR mill SERVER s3 OPTIONS (access_key %s, secret_key %s)" % (s.url, literal(s.access_key), literal(s.secret_key)))
        mill(c, "SELECT millrace.create_pipeline('images', 'photos', '{\"object_server\": \"s3\", \"http_prefix\": \"/v1/photos\"}')")
        mill(c, "GRANT USAGE ON SCHEMA photos TO web; GRANT EXECUTE ON FUNCTION photos.http_upload, photos.http_extract, photos.http_extract_poll, photos.http_extraction TO web;"
                "GRANT SELECT ON photos.predictions, photos.failures, photos.descriptors, photos.images TO web")
        web = Web(port, token(c, 'web'))
        status, up = web.form('/v1/photos/upload', [photo_part(photos[1])])
        tap.ok(status == 201 and up['object_path'].endswith(up['image_id'] + '.jpg') and up['object_path'].startswith('raw-images/20'), 'an upload into a store: %s' % up.get('object_path'))
        tap.same(web.get('/v1/photos/predictions/' + up['image_id'])[1]['status'], 'done', 'its predictions are there at once')
        c.wait_for("SELECT count(*) FROM millrace.http_requests", '0', 30)
        tap.same(s.s3.get_object(Bucket='raw-images', Key=up['object_path'].split('/', 1)[1])['Body'].read() == photos[1], True, 'and the object is, soon after')
        tap.same(c.psql("SELECT count(*) FROM photos.runs WHERE stage = 'extract'"), [('1',)], 'it is described once')

        status, got = web.post('/v1/photos/extract', {'image_id': 'a', 'minio_path': 'raw-images/given/a b.jpg'})
        want = web.form('/v1/photos/extract', [photo_part(photos[0])])[1]
        tap.same((status, got), (200, {**want, 'image_id': 'a'}), 'descriptors of an object, waited for')
        tap.same(web.post('/v1/photos/extract', {'minio_path': 's3://raw-images/given/a b.jpg'})[1], want, 'as s3:// and without an id')
        fault(web.post('/v1/photos/extract', {'minio_path': 'raw-images/given/none.jpg'}), 404, '', 'an object that is not there')
        fault(web.post('/v1/photos/extract', {'minio_path': 'raw-images/given/text.jpg'}), 422, 'neither JPEG nor PNG', 'an object that is no photo')
        fault(web.post('/v1/photos/extract', {'minio_path': 'secrets/a.jpg'}), 403, 'raw-images', 'an object of another bucket')
        tap.same(c.value("SELECT count(*) FROM photos.images"), '1', 'none of that is stored as an image')
        s.freeze()
        began = time.monotonic()
        status, got = web.post('/v1/photos/extract', {'image_id': 'late', 'minio_path': 'raw-images/given/a b.jpg'})
        took = time.monotonic() - began
        tap.ok(status == 202 and got['status'] == 'pending' and took > 8, 'a store that hangs: %s after %.1f s, with a task' % (status, took))
        tap.same(c.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace executor' AND state = 'idle in transaction'"), '0', 'no transaction waits')
        s.thaw()
        later = until(lambda: web.get('/v1/photos/extract/' + got['task_id']), 60, lambda a: a[0] != 202)
        tap.same(later, (200, {**want, 'image_id': 'late'}), 'whose result is there once the store is')
        fault(web.get('/v1/photos/extract/00000000-0000-0000-0000-000000000000'), 404, 'no task', 'a task that there is not')
        fault(web.get('/v1/photos/extract/7'), 400, 'uuid', 'an id that is none')
        s.kill()
        status, got = web.post('/v1/photos/extract', {'minio_path': 'raw-images/given/a b.jpg'})
        tap.ok(status in (202, 503), 'a store that is gone: %s' % status)
        tap.same(web.form('/v1/photos/upload', [photo_part(photos[2]), ('image_id', None, None, b'homeless')])[0], 201, 'and uploads go on')
        tap.same(web.get('/v1/photos/predictions/homeless')[1]['status'], 'done', 'as do their predictions')
        c.wait_for("SELECT object_path IS NULL FROM photos.images WHERE image_id = 'homeless'", 't', 60)
        tap.same(c.value("SELECT stage FROM photos.failures WHERE image_id = 'homeless'"), 'upload', 'what the store did not take has no path, and its reason stands there')
        mill(c, "SELECT millrace.drop_pipeline('photos')")
        tap.same(web.raw('GET', '/v1/photos/health')[0], 404, 'a pipeline that is dropped has no routes')


def datasets(c, port):
    mill(c, "SELECT millrace.create_pipeline('datasets', options => '{\"detector\": \"yolo\"}')")
    health(c, port, 'datasets', 'no detector: not healthy', 503, model_path=None, model_loaded=False)
    mill(c, "GRANT USAGE ON SCHEMA datasets TO web; GRANT EXECUTE ON FUNCTION datasets.http_annotated, datasets.http_detections TO web")
    web = Web(port, token(c, 'web'))
    with open(os.path.join(PHOTOS, 'bus.jpg'), 'rb') as f:
        bus = f.read()
    fault(web.form('/datasets/predict/json', [photo_part(bus)]), 503, 'yolo', 'a detector that is not there')
    with open(YOLO, 'rb') as f:
        mill(c, "SELECT millrace.import_model('yolo', '\\x%s')" % f.read().hex())
    health(c, port, 'datasets', 'healthy with one', model_path='yolo:1')
    status, seen = web.form('/datasets/predict/json', [photo_part(bus)])
    tap.same((status, seen['count'], seen['image_shape']), (200, len(seen['detections']), dict(zip(('width', 'height'), size(bus)))), 'POST /predict/json')
    tap.ok(set(seen['detections'][0]) == {'class_id', 'class_name', 'confidence', 'bbox'} and set(seen['detections'][0]['bbox']) == {'x1', 'y1', 'x2', 'y2'} and
           sum(d['class_name'] == 'person' for d in seen['detections']) >= 3 and any(d['class_name'] == 'bus' for d in seen['detections']), 'a bus, and people: %s' % [d['class_name'] for d in seen['detections']])
    want = json.loads(c.value("SELECT detections_json('\\x%s', 'yolo', 0.25, 0.45)" % bus.hex()))
    tap.same(seen, want, 'as detections_json() says')
    few = web.form('/datasets/predict/json?confidence=0.8&iou=0.5&model=yolo:1', [photo_part(bus)])[1]
    tap.ok(0 < few['count'] < seen['count'] and all(d['confidence'] >= 0.8 for d in few['detections']), 'confidence, iou and model of the query')
    status, drawn, headers = web.ask('POST', '/datasets/predict', *multipart([photo_part(bus)]))
    tap.same((status, headers['Content-Type'], size(drawn)), (200, 'image/jpeg', size(bus)), 'POST /predict: a JPEG of the same size')
    tap.ok(drawn != bus and abs(len(drawn) - len(bus)) < len(bus), 'with something drawn in it')
    for path in ('/datasets/predict', '/datasets/predict/json'):
        fault(web.form(path, [photo_part(b'no photo')]), 400, 'neither JPEG nor PNG', path + ' of no photo')
        fault(web.form(path, [photo_part(bus[:2000])]), 400, '', path + ' of a torn photo')
        fault(web.form(path + '?model=nobody', [photo_part(bus)]), 400, 'nobody', path + ' by a model that there is not')
        fault(web.form(path + '?model=cifar10_fast', [photo_part(bus)]), 400, 'detector', path + ' by one that is no detector')
        fault(web.form(path + '?confidence=2', [photo_part(bus)]), 400, 'confidence', path + ' with a confidence of 2')
        fault(web.form(path + '?confidence=high', [photo_part(bus)]), 400, 'double precision', path + ' with a confidence of high')
        fault(web.form(path, [('x', None, None, b'1')]), 400, '', path + ' without a file')
    fault(Web(port, token(c, 'other')).form('/datasets/predict/json', [photo_part(bus)]), 403, 'permission denied', 'a role that may not')
    metrics(c, web, '/datasets')


def events_of(c, port, key, path, last):
    """Type and data of a stream of events, to the first that last() is true of."""
    e = Events(Door(c, port, key), path)
    found = []
    while (data := e.next()) is not None:
        found.append(data)
        if last(data):
            break
    e.close()
    return e.r.headers['Content-Type'], found


def answers(c, port):
    """Provider local: a function of the database knows two answers."""
    mill(c, "CREATE SCHEMA knows; CREATE FUNCTION knows.answer(r jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE q text := r -> 'messages' -> 0 ->> 'content'; BEGIN "
            "IF q ~ 'capital of Chile' THEN PERFORM pg_sleep(1.5); RETURN jsonb_build_object('text', 'Santiago is the capital of Chile'); END IF;"
            "IF q ~ 'capital of Peru' THEN RETURN jsonb_build_object('text', 'I do not know'); END IF; RAISE no_data_found USING MESSAGE = 'not known'; END $$")
    c.psql("CREATE SERVER here FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'knows.answer'); GRANT USAGE ON FOREIGN SERVER here TO mill")
    options = {'provider': 'here', 'encoder': '', 'judge': 'token_f1', 'regenerations': 1}
    for name, more in (('answers', {}), ('private', {'tenants': 'role'})):
        mill(c, "SELECT millrace.create_pipeline('answers', '%s', %s)" % (name, literal(json.dumps({**options, **more}))))
        mill(c, "GRANT USAGE ON SCHEMA %s TO web, other; GRANT EXECUTE ON FUNCTION %s.http_query, %s.http_status TO web, other" % (name, name, name))
    keys = {r: token(c, r) for r in ('web', 'other')}
    web, other = Web(port, keys['web']), Web(port, keys['other'])
    question = {'question': 'What is the capital of Chile?', 'reference': 'Santiago is the capital of Chile.'}
    status, got = web.post('/answers/query', question)
    tap.ok(status == 202 and set(got) == {'question_id', 'status'} and got['status'] == 'pending', 'a question: 202')
    first = web.get('/answers/status/' + got['question_id'])
    tap.ok(first[0] == 200 and first[1]['status'] == 'pending' and 'answer' not in first[1] and first[1]['history'][0]['stage'] == 'lookup', 'its status: pending')
    kind, said = events_of(c, port, keys['web'], '/answers/status/%s/events' % got['question_id'], lambda e: e['status'] == 'validated')
    tap.ok(kind.startswith('text/event-stream') and [e['status'] for e in said][0] == 'pending' and [e['status'] for e in said][-1] == 'validated' and len(said) < 10,
           'a stream of what changes: %s' % [e['status'] for e in said])
    status, last = web.get('/answers/status/' + got['question_id'])
    tap.ok(status == 200 and last['status'] == 'validated' and last['answer'] == 'Santiago is the capital of Chile' and last['score'] > 0.75 and last['retry_count'] == 0 and
           [h['state'] for h in last['history'] if 'state' in h][-1] == 'validated' and last == said[-1], 'then the answer, its score and its history')
    status, hit = web.post('/answers/query', question)
    tap.ok(status == 200 and set(hit) == {'question_id', 'status', 'answer', 'score', 'source'} and hit['answer'] == last['answer'] and hit['score'] == last['score'] and hit['source'] in ('exact', 'stored'),
           'the same again: 200, from %s' % hit.get('source'))
    tap.same(web.post('/answers/query', {**question, 'options': {'refresh': True}})[0], 202, 'unless it is to be asked again')
    tap.same(web.ask('POST', '/answers/query', 'question=What+is+the+capital+of+Peru%3F&reference=Lima', {'Content-Type': 'application/x-www-form-urlencoded'})[0], 202, 'as a form')
    bad = c.value("SELECT question_id FROM answers.questions WHERE question ~ 'Peru'")
    got = until(lambda: web.get('/answers/status/' + bad)[1], 60, lambda a: a['status'] == 'low-quality')
    tap.ok(got['status'] == 'low-quality' and got['retry_count'] == 1 and 'answer' not in got, 'an answer that is not good enough is not shown')
    lost = web.post('/answers/query', {'question': 'Who?'})[1]['question_id']
    got = until(lambda: web.get('/answers/status/' + lost)[1], 60, lambda a: a['status'] == 'failed')
    tap.ok(got['status'] == 'failed' and 'not known' in got['error'], 'a question that nobody answers: %s' % got.get('error'))
    for what, body, part in (('none', {'question': ''}, 'question'), ('null', {'question': None}, 'question'), ('nothing', {}, 'question'), ('too long', {'question': 'x' * 20001}, 'question'),
                             ('with an unknown option', {'question': 'x', 'options': {'x': 1}}, 'options'.rstrip('s')), ('with options that are none', {'question': 'x', 'options': [1]}, 'options')):
        fault(web.post('/answers/query', body), 400, part, 'a question that is %s' % what)
    fault(web.post('/answers/query', {'question': 'x', 'options': {'provider': 'elsewhere'}}), 403, 'provider', 'another provider than the owner chose')
    fault(web.get('/answers/status/00000000-0000-0000-0000-000000000000'), 404, 'no question', 'a question that there is not')
    fault(web.get('/answers/status/7'), 400, 'uuid', 'an id that is none')

    # a tenant is the role of the token
    mine = web.post('/private/query', {'question': 'What is the capital of Chile?', 'tenant': 'other', 'reference': question['reference']})[1]['question_id']
    tap.same(c.value("SELECT tenant FROM private.questions WHERE question_id = '%s'" % mine), 'web', 'the tenant is the token\'s role, whatever the request says')
    tap.same(web.get('/private/status/' + mine)[0], 200, 'it sees its own question')
    fault(other.get('/private/status/' + mine), 404, 'no question', 'another role does not')
    until(lambda: web.get('/private/status/' + mine)[1], 60, lambda a: a['status'] == 'validated')
    tap.same((web.post('/private/query', question)[0], other.post('/private/query', question)[0]), (200, 202), 'nor is it given its answer')
    health(c, port, 'answers', 'healthy')
    metrics(c, web, '/answers')


def events(c, port):
    mill(c, "SELECT millrace.create_pipeline('events', options => '{\"tasks\": [\"keywords\"]}')")
    mill(c, "CREATE SCHEMA IF NOT EXISTS knows; CREATE FUNCTION knows.shorten(r jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN "
            "IF r::text ~ 'impossible' THEN RAISE no_data_found USING MESSAGE = 'not known'; END IF; RETURN jsonb_build_object('text', 'It grinds.', 'nothing', NULL); END $$")
    c.psql("CREATE SERVER short FOREIGN DATA WRAPPER millrace_http OPTIONS (api 'local', function 'knows.shorten'); GRANT USAGE ON FOREIGN SERVER short TO mill")
    mill(c, "SELECT events.add_type('summary', 'In short: {{text}}', condition => 'length(text) > 20', options => '{\"provider\": \"short\"}')")
    mill(c, "GRANT USAGE ON SCHEMA events TO web; GRANT EXECUTE ON FUNCTION events.http_process, events.http_task TO web")
    key = token(c, 'web')
    web = Web(port, key)
    text = 'The old mill grinds grain slowly between two heavy stones.'

    def end(task):
        return until(lambda: web.get('/events/task/' + task)[1], 60, lambda a: a['status'] != 'pending')
    status, got = web.post('/events/process', {'text': text, 'task_type': 'keywords'})
    tap.ok(status == 202 and set(got) == {'task_id'}, 'a text: 202')
    kind, said = events_of(c, port, key, '/events/task/%s/events' % got['task_id'], lambda e: e['status'] == 'succeeded')
    tap.ok(kind.startswith('text/event-stream') and said[-1]['status'] == 'succeeded', 'a stream of what becomes of it')
    task = end(got['task_id'])
    tap.ok(task['status'] == 'succeeded' and task['cached'] is False and 'two heavy stones' in task['result']['keywords'] and task['task_id'] == got['task_id'], 'its result: %s' % task.get('result'))
    first = end(web.post('/events/process', {'text': text, 'task_type': 'summary'})[1]['task_id'])
    again = end(web.post('/events/process', {'text': text, 'task_type': 'summary'})[1]['task_id'])
    tap.same([(a['status'], a['result'], a['cached']) for a in (first, again)], [('succeeded', {'text': 'It grinds.'}, False), ('succeeded', {'text': 'It grinds.'}, True)],
             'a prompt is asked once: the second answer is the cache\'s')
    lost = end(web.post('/events/process', {'text': 'This is quite impossible to say in short.', 'task_type': 'summary', 'metadata': {'tenant': 't'}})[1]['task_id'])
    tap.ok(lost['status'] == 'failed' and 'not known' in lost['error'] and 'result' not in lost, 'what cannot be done: %s' % lost)
    tap.same(c.value("SELECT tenant FROM events.events WHERE text ~ 'impossible'"), 't', 'metadata is kept')
    before = c.value('SELECT count(*) FROM events.events')
    fault(web.post('/events/process', {'text': text, 'task_type': 'translation'}), 400, 'keywords, summary', 'an unknown type of task names those there are')
    fault(web.post('/events/process', {'text': 'short', 'task_type': 'summary'}), 400, 'not made of such texts', 'a type that is not for such texts')
    fault(web.post('/events/process', {'text': None, 'task_type': 'keywords'}), 400, 'text', 'no text')
    fault(web.post('/events/process', {'text': text}), 400, 'task_type', 'no type')
    fault(web.post('/events/process', {'text': text, 'task_type': 'keywords', 'metadata': [1]}), 400, 'metadata', 'metadata that is no object')
    tap.same(c.value('SELECT count(*) FROM events.events'), before, 'none of which is an event')
    fault(web.get('/events/task/00000000-0000-0000-0000-000000000000'), 404, 'no task', 'a task that there is not')
    fault(web.get('/events/task/x'), 400, 'uuid', 'an id that is none')
    fault(Web(port, token(c, 'other')).post('/events/process', {'text': text, 'task_type': 'keywords'}), 403, 'permission denied', 'a role that may not')
    health(c, port, 'events', 'healthy')
    metrics(c, web, '/events')


def tabular(c, port):
    columns = 'n int, obj_id numeric, alpha double precision, delta double precision, u real, g real, r real, i real, z real, run_id int, rerun_id int, cam_col int, field_id int, spec_obj_id numeric, class text, redshift real, plate int, mjd int, fiber_id int'
    columns = columns.replace('run_id', 'run').replace('rerun', 'rerun')
    mill(c, "SELECT millrace.create_pipeline('tabular', 'stars', %s)" % literal(json.dumps(
        {'columns': columns, 'key': 'n', 'target': 'class', 'features': ['u', 'g', 'r', 'i', 'z', 'redshift', 'u - g AS u_g'], 'missing': [-9999], 'normalise': 'robust',
         'candidates': [{'algorithm': 'gradient_boosting', 'options': {'max_iter': 20}}], 'monitor': False, 'schedule': False, 'window': '1 day'})))
    mill(c, "GRANT USAGE ON SCHEMA stars TO web; GRANT EXECUTE ON FUNCTION stars.http_classify, stars.http_model, stars.http_model_metrics TO web")
    web = Web(port, token(c, 'web'))
    fault(web.post('/stars/classify', {'u': 1}), 503, 'no champion', 'no champion yet')
    fault(web.get('/stars/model'), 404, 'no champion', 'nor a model to be shown')
    fault(web.get('/stars/model/metrics'), 404, 'no champion', 'nor its figures')
    health(c, port, 'stars', 'not healthy', 503, model_path=None, model_loaded=False)
    with open(STARS) as f:
        lines = ['%d,%s' % pair for pair in enumerate(f.read().splitlines()[1:4001])]
    mill(c, 'COPY stars.raw (%s) FROM STDIN (FORMAT csv);\n%s\n\\.\n' % (', '.join(p.split()[0] for p in columns.split(', ')), '\n'.join(lines)))
    tap.same(mill(c, "SELECT state, champion_after FROM stars.catch_up(now() + interval '1 day')"), [('done', 'stars:1')], '4,000 stars, galaxies and quasars are learnt from')
    names = [p.split()[0] for p in columns.split(', ')]
    rows = [dict(zip(names, r)) for r in csv.reader(lines[:300])]
    objects = [{k: float(r[k]) for k in ('u', 'g', 'r', 'i', 'z', 'redshift')} for r in rows]
    status, got = web.post('/stars/classify', objects[0])
    tap.ok(status == 200 and set(got) == {'label', 'confidence', 'probabilities', 'model'} and got['model'] == 'stars:1' and set(got['probabilities']) == {'GALAXY', 'STAR', 'QSO'} and
           abs(sum(got['probabilities'].values()) - 1) < 1e-4 and max(got['probabilities'], key=got['probabilities'].get) == got['label'], 'an object: %s' % got.get('label'))
    status, all_ = web.post('/stars/classify', objects)
    want = c.psql("SELECT c.label, c.confidence FROM stars.features f JOIN stars.raw r USING (row_id), LATERAL classify(millrace.model_features('stars', f), 'stars') c WHERE f.row_id <= 300 ORDER BY f.row_id")
    tap.ok(status == 200 and len(all_) == 300 and all_[0] == got and all(a['label'] == l and abs(a['confidence'] - float(p)) < 1e-6 for a, (l, p) in zip(all_, want)), 'an array: as SQL says of the same rows')
    right = sum(a['label'] == r['class'] for a, r in zip(all_, rows)) / 300
    tap.ok(right > 0.93, '%.1f %% are right' % (100 * right))
    tap.same(web.post('/stars/classify', {**objects[0], 'u_g': objects[0]['u'] - objects[0]['g']})[1]['label'], got['label'], 'a derived feature may be given')
    tap.same(web.post('/stars/classify', {**objects[0], 'u': None})[1], web.post('/stars/classify', {**objects[0], 'u': -9999})[1], 'what is left out is missing, as a marker is')
    tap.same(web.post('/stars/classify', [])[1], [], 'an empty array')
    fault(web.post('/stars/classify', {**objects[0], 'colour': 'red', 'mass': 1}), 400, 'colour, mass', 'features that there are not')
    fault(web.post('/stars/classify', {'u': 'bright'}), 400, 'real', 'a word for a number')
    fault(web.post('/stars/classify', [1, 2]), 400, 'object', 'numbers for objects')
    fault(web.post('/stars/classify', 'null'), 400, 'object', 'null')
    fault(web.post('/stars/classify', '{"u":'), 400, '', 'JSON that is torn')
    fault(web.post('/stars/classify', [{}] * 10001), 413, '10000', 'too many at once')
    status, model = web.get('/stars/model')
    tap.ok(status == 200 and model['model'] == 'stars:1' and model['algorithm'] == 'gradient_boosting' and model['features'] == ['u', 'g', 'r', 'i', 'z', 'redshift', 'u_g'] and
           model['lineage']['trained_by']['rows'] == 4000 and 'no champion' in model['lineage']['trained_by']['decision']['reason'] and len(model['lineage']['champions']) == 1, 'GET /model: champion and lineage')
    status, figures = web.get('/stars/model/metrics')
    accuracy = float(c.value("SELECT accuracy FROM millrace.evaluations WHERE name = 'stars' ORDER BY id DESC LIMIT 1"))
    tap.ok(status == 200 and figures['model'] == 'stars:1' and figures['holdout']['accuracy'] == accuracy and set(figures['holdout']['per_class']) == {'GALAXY', 'STAR', 'QSO'}, 'GET /model/metrics: accuracy %.3f' % accuracy)
    health(c, port, 'stars', 'healthy', model_path='stars:1')
    fault(Web(port, token(c, 'other')).post('/stars/classify', objects[0]), 403, 'permission denied', 'a role that may not')
    metrics(c, web, '/stars')


def main():
    parts = {'images': (images, CIFAR), 'store': (store, CIFAR), 'datasets': (datasets, PHOTOS and YOLO), 'answers': (answers, True), 'events': (events, True), 'tabular': (tabular, STARS)}
    with gateway(NAME, SETUP) as (c, port):
        for name, (part, there) in parts.items():
            if len(sys.argv) > 1 and name not in sys.argv[1:]:
                continue
            if there:
                part(c, port)
            else:
                tap.note('%s: its data is not here' % name)
        clean_log(c)
    tap.done()


main()
