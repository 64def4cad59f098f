"""Pipeline datasets as its tutorial goes through it: import, audit, evaluation of two detectors, labels in doubt, fixes as versions,
what may be trained on, export and the detector that comes back, charts and the report."""
# timeout: 900
import contextlib
import html.parser
import io
import json
import os
import sys
import xml.dom.minidom

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config

try:
    import numpy as np
    import psycopg
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
except ImportError as e:
    tap.skip_all(f'needs {e.name}')

YOLO, COCO8, PHOTOS = (tap.data(x) for x in ('models/yolov8n_dequant_fp32.onnx', 'coco8', 'photos'))
if not (YOLO and COCO8 and PHOTOS):
    tap.skip_all('needs shared/data: yolov8n, coco8, photos')


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def one(db, sql, *args):
    row = db.execute(sql, args).fetchone()
    return row[0] if row else None


def rows(db, sql, *args):
    return db.execute(sql, args).fetchall()


def refused(db, sql, part, name, *args):
    try:
        db.execute(sql, args)
        tap.ok(False, name)
    except psycopg.Error as e:
        if not tap.ok(part in str(e), f'{name}: {e.diag.message_primary}'):
            tap.note(e)


def import_coco8(db):
    for root, _, names in os.walk(COCO8):
        for n in names:
            if n.endswith(('.jpg', '.txt')):
                path = os.path.join(root, n)
                db.execute('INSERT INTO datasets.files VALUES (%s, %s, %s)', ('coco8', os.path.relpath(path, COCO8), read(path)))
    labels = one(db, "SELECT labels FROM millrace.models WHERE name = 'yolo' AND version = 1")
    yaml = 'names:\n' + ''.join(f'  {i}: {n}\n' for i, n in enumerate(labels))
    db.execute("INSERT INTO datasets.files VALUES ('coco8', 'data.yaml', %s)", (yaml.encode(),))
    counts = one(db, "SELECT datasets.import_files('coco8')")
    tap.same([counts[k] for k in ('images', 'annotations', 'classes', 'problems')], [8, 30, 80, 0], 'coco8 imported')


def evaluation(db):
    """The figures against pycocotools on the same detections."""
    run = one(db, "SELECT datasets.evaluate('coco8', 'yolo:1')")
    truths = rows(db, "SELECT image_id, class_id, x1, y1, x2, y2 FROM datasets.annotations_of('coco8')")
    guesses = rows(db, "SELECT d.image_id, x.class_id, x.x1, x.y1, x.x2, x.y2, x.confidence FROM datasets.detections d, unnest(d.detections) x WHERE d.confidence = 0.001::real")
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {'images': [{'id': i} for i in {t[0] for t in truths}], 'categories': [{'id': c} for c in {t[1] for t in truths} | {g[1] for g in guesses}],
                      'annotations': [{'id': n + 1, 'image_id': i, 'category_id': c, 'bbox': [a, b, x - a, y - b], 'area': (x - a) * (y - b), 'iscrowd': 0} for n, (i, c, a, b, x, y) in enumerate(truths)]}
        gt.createIndex()
        e = COCOeval(gt, gt.loadRes([{'image_id': i, 'category_id': c, 'bbox': [a, b, x - a, y - b], 'score': s} for i, c, a, b, x, y, s in guesses]), 'bbox')
        e.evaluate(), e.accumulate(), e.summarize()
    ours = rows(db, 'SELECT map50_95, map50, map_small, map_medium, map_large FROM datasets.evaluations WHERE run_id = %s', run)[0]
    tap.ok(np.abs(np.array(ours) - e.stats[[0, 1, 3, 4, 5]]).max() < 1e-4, 'coco8: mAP50-95 %.4f, mAP50 %.4f, small %.4f, medium %.4f, large %.4f as pycocotools says' % ours)
    matrix = {(t, p): n for t, p, n in rows(db, 'SELECT true_name, predicted_name, count FROM datasets.confusion_matrix WHERE run_id = %s', run)}
    tap.same(sum(n for (t, _), n in matrix.items() if t != 'background'), 30, 'every object is in the confusion matrix once')
    tap.ok(matrix.get(('horse', 'horse')) == 2 and matrix.get(('zebra', 'zebra')) == 1, 'both horses and the zebra are found')
    tap.same(one(db, 'SELECT count(*) FROM datasets.pr_curves WHERE run_id = %s AND class_id IS NULL', run), 101, 'a PR curve of 101 points')
    before = one(db, 'SELECT count(*) FROM datasets.detections')
    one(db, "SELECT datasets.evaluate('coco8', 'yolo:1')")
    tap.same(one(db, 'SELECT count(*) FROM datasets.detections'), before, 'a second evaluation takes the detections that are there')

    db.execute("SELECT millrace.import_model('yolo', %s, %s)", (read(YOLO), '{"precision": "bfloat16"}'))
    other = one(db, "SELECT datasets.evaluate('coco8', 'yolo:2')")
    a = rows(db, 'SELECT map50_95_a, map50_95_b, objects, p_value FROM datasets.compare_evaluations(%s, %s) WHERE class_id IS NULL', run, other)[0]
    tap.ok(a[2] == 30 and abs(a[0] - a[1]) < 0.05 and a[3] > 0.05, 'two versions side by side: mAP50-95 %.4f and %.4f (bfloat16), p = %.2f' % (a[0], a[1], a[3]))
    split = one(db, """SELECT datasets.evaluate('coco8', 'yolo:1', '{"splits": ["val"]}')""")
    tap.same(one(db, 'SELECT objects FROM datasets.evaluations WHERE run_id = %s', split), 17, 'a split alone')
    refused(db, 'SELECT * FROM datasets.compare_evaluations(%s, %s)', 'not two evaluations of the same images', 'other images are not compared', run, split)
    refused(db, """SELECT datasets.evaluate('coco8', 'yolo', '{"confidense": 1}')""", 'unknown option', 'an unknown option')


def suspects(db):
    """Photos labelled by the detector itself; then labels are spoilt, one of each kind."""
    db.execute("SELECT datasets.create_dataset('photos', 'detection', (SELECT labels FROM millrace.models WHERE name = 'yolo' AND version = 1))")
    for n in sorted(os.listdir(PHOTOS)):
        db.execute("INSERT INTO datasets.images (dataset, path, content) VALUES ('photos', %s, %s)", (n, read(os.path.join(PHOTOS, n))))
    db.execute("""INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2)
        SELECT i.image_id, d.class_id, d.x1, d.y1, d.x2, d.y2 FROM datasets.images i, LATERAL detect(i.content, 'yolo:1', 0.5) d WHERE i.dataset = 'photos'""")
    kinds = ['missing_label', 'wrong_class', 'spurious_label', 'loose_box']
    found = lambda run: {(k, i, a) for k, i, a in rows(db, 'SELECT kind, image_id, annotation_id FROM datasets.findings WHERE run_id = %s AND kind = ANY (%s)', run, kinds)}
    run = one(db, "SELECT datasets.audit('photos')")
    tap.same(found(run), set(), 'labels that the detector agrees with: nothing')
    big = rows(db, """SELECT a.annotation_id, a.image_id FROM datasets.annotations a JOIN datasets.images i USING (image_id), LATERAL detect(i.content, 'yolo:1', 0.7) d
        WHERE i.dataset = 'photos' AND d.x1 = a.x1 AND d.y1 = a.y1 AND d.class_id = a.class_id ORDER BY (a.x2 - a.x1) * (a.y2 - a.y1) DESC LIMIT 3""")
    (gone, gone_image), (other, other_image), (loose, loose_image) = big
    db.execute('DELETE FROM datasets.annotations WHERE annotation_id = %s', (gone,))
    db.execute('UPDATE datasets.annotations SET class_id = 79 WHERE annotation_id = %s', (other,))
    db.execute('UPDATE datasets.annotations SET x2 = x1 + (x2 - x1) * 0.65, y2 = y1 + (y2 - y1) * 0.7 WHERE annotation_id = %s', (loose,))
    image, width, height = rows(db, "SELECT image_id, width, height FROM datasets.facts JOIN datasets.images USING (image_id) WHERE path = 'hot_dog.jpg'")[0]
    nothing = one(db, 'INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2) VALUES (%s, 12, 0, 0, %s, %s) RETURNING annotation_id', image, width / 20, height / 20)
    run = one(db, "SELECT datasets.audit('photos')")
    tap.same(found(run), {('missing_label', gone_image, None), ('wrong_class', other_image, other), ('loose_box', loose_image, loose), ('spurious_label', image, nothing)}, 'each spoilt label is found, nothing else')
    given = rows(db, "SELECT evidence ->> 'found', annotation_id FROM datasets.findings WHERE run_id = %s AND kind = 'wrong_class'", run)[0]
    version = one(db, "SELECT datasets.relabel('photos', ARRAY[%s]::bigint[], ARRAY[%s]::int[])", given[1], int(given[0]))
    tap.same(rows(db, "SELECT count(*), count(*) FILTER (WHERE class_id = 79) FROM datasets.annotations_of(%s)", f'photos:{version}')[0][1], 0, 'relabel() makes a version with the class that was found')
    tap.same(one(db, "SELECT count(*) FROM datasets.annotations_of(%s) WHERE class_id = 79", f'photos:{version - 1}'), 1, 'and leaves the one before as it was')


def fixes(db):
    db.execute("SELECT datasets.create_dataset('fix', 'detection', '{a,b}')")
    ids = [r[0] for r in rows(db, """INSERT INTO datasets.images (dataset, split, path, content)
        SELECT 'fix', CASE WHEN n > 4 THEN 'val' ELSE 'train' END, n || '.jpg', image_resize((SELECT content FROM datasets.images WHERE path = 'bus.jpg' LIMIT 1), 64 + n, 48) FROM generate_series(1, 6) n RETURNING image_id""")]
    db.execute("""INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2) SELECT unnest(%s), 0, 1, 1, 20, 20""", (ids,))
    bad = [one(db, 'INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2) VALUES (%s, %s, %s, %s, %s, %s) RETURNING annotation_id', ids[0], *b)
           for b in ((1, -5, 3, 30, 20), (1, 10, 10, 10, 30), (7, 2, 2, 9, 9), (1, 100, 100, 120, 130))]
    run = one(db, "SELECT datasets.audit('fix', '{\"skip\": [\"leaks\"]}')")
    tap.ok({a for a, in rows(db, "SELECT annotation_id FROM datasets.findings WHERE run_id = %s AND annotation_id = ANY (%s)", run, bad)} == set(bad), 'every bad box is found')
    refused(db, "SELECT datasets.begin_training('fix')", 'has blocking findings', 'blocking findings: no training')
    refused(db, "SELECT * FROM datasets.export_for_training('fix')", 'has blocking findings', 'no export for it')
    refused(db, "SELECT datasets.evaluate('fix', 'yolo:1')", 'has blocking findings', 'no evaluation')
    refused(db, "SELECT millrace.train_model('m', 'random_forest', 'SELECT image_id::real AS x, split AS y FROM datasets.training_images(''fix'')', 'y')", 'has blocking findings', 'no train_model()')
    refused(db, "SELECT millrace.train_model('m', 'random_forest', 'WITH q AS (SELECT * FROM datasets.images) SELECT image_id::real AS x, split AS y FROM q', 'y')", 'must not read "images"', 'nor around training_images()')
    refused(db, "SELECT millrace.train_model('m', 'random_forest', 'SELECT image_id::real AS x, split AS y FROM datasets.images_of(''fix'')', 'y')", 'must not read "images_of()"', 'nor by another function')
    for kind, in rows(db, "SELECT DISTINCT kind FROM datasets.findings WHERE run_id = %s AND severity = 'blocking'", run):
        refused(db, "SELECT datasets.waive('fix', %s, ' ')", 'a reason is needed', f'{kind} is not waived without a reason', kind)
        db.execute("SELECT datasets.waive('fix', %s, 'shown in a test')", (kind,))
    tap.ok(one(db, "SELECT datasets.trainable('fix')"), 'waived with a reason: it may be trained on')
    db.execute("DELETE FROM datasets.waivers WHERE dataset = 'fix'")
    v = one(db, "SELECT datasets.drop_boxes('fix')")
    tap.same({a for a, in rows(db, 'SELECT annotation_id FROM datasets.annotations_of(%s)', f'fix:{v}')} & set(bad[1:3]), set(), 'drop_boxes(): degenerate ones and unknown classes are gone')
    v = one(db, "SELECT datasets.clamp_boxes('fix')")
    tap.same([rows(db, 'SELECT changed FROM datasets.versions WHERE dataset = %s AND version = %s', 'fix', v)[0][0], rows(db, "SELECT x1, y1, x2, y2 FROM datasets.annotations_of('fix') WHERE class_id = 1")],
             [{'annotations_clamped': 1, 'annotations_removed': 1}, [(0, 3, 30, 20)]], 'clamp_boxes(): what is outside is cut, or gone')
    tap.ok(one(db, "SELECT datasets.trainable('fix')"), 'what blocked is no longer there: it may be trained on before another audit')
    tap.same([one(db, 'SELECT count(*) FROM datasets.annotations_of(%s)', f'fix:{n}') for n in range(1, v + 1)], [10, 8, 7], 'each version keeps its own')
    db.execute("INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2) VALUES (%s, 1, 30, 30, 40, 40)", (ids[1],))
    v = one(db, "SELECT datasets.rebalance('fix')")
    tap.ok(one(db, "SELECT count(*) > 0 AND min(weight) >= 1 AND max(weight) > 1 FROM datasets.training_images('fix')") and one(db, "SELECT count(*) > 0 FROM datasets.sampling WHERE version = %s", v),
           'rebalance(): images of the rare class have weights')
    return ids


def frozen(db, ids):
    v = one(db, "SELECT version FROM datasets.datasets WHERE dataset = 'fix'")
    state = one(db, "SELECT datasets.dataset_state('fix')")
    run = one(db, "SELECT datasets.begin_training('fix', '{\"epochs\": 3}')")
    for sql in ('DELETE FROM datasets.images WHERE image_id = %s', "UPDATE datasets.images SET split = 'test' WHERE image_id = %s", 'DELETE FROM datasets.annotations WHERE image_id = %s',
                'UPDATE datasets.annotations SET x1 = 0 WHERE image_id = %s', 'UPDATE datasets.images SET until = %s WHERE image_id = %%s' % v):
        refused(db, sql, 'is frozen', sql.split(' WHERE')[0], ids[2])
    db.execute("INSERT INTO datasets.images (dataset, split, path) VALUES ('fix', 'train', 'later.jpg')")
    tap.same([one(db, 'SELECT count(*) FROM datasets.images_of(%s)', f'fix:{n}') for n in (v, v + 1)], [6, 7], 'what is inserted afterwards opens the next version')
    tap.same(one(db, 'SELECT datasets.dataset_state(%s)', f'fix:{v}'), state, 'the state of the frozen one is what it was')
    files = dict(rows(db, 'SELECT path, content FROM datasets.training_files(%s)', run))
    lineage = json.loads(bytes(files['lineage.json']))
    tap.ok(b'epochs: 3\n' in bytes(files['train.yaml']) and b'optimizer: "AdamW"' in bytes(files['train.yaml']) and b'imgsz: 640' in bytes(files['train.yaml']) and
           (lineage['dataset'], lineage['version'], lineage['state']) == ('fix', v, state.hex()), 'the folder has hyper-parameters and lineage')
    tap.same(sorted(p for p in files if p.startswith('images/')), [f"images/{'val' if n > 4 else 'train'}/{n}.jpg" for n in range(1, 7)], 'and the images')
    tap.ok('data.yaml' in files and b'a' in bytes(files['data.yaml']) and bytes(files['labels/val/5.txt']).split()[0] == b'0', 'and data.yaml and labels')
    version = one(db, 'SELECT datasets.register_detector(%s, %s, %s, %s)', run, 'mine', read(YOLO), '{"labels": null}')
    tap.same(rows(db, 'SELECT model, dataset, version, state FROM datasets.lineage'), [(f'mine:{version}', 'fix', v, state.hex())], 'the detector that comes back has its lineage')
    refused(db, 'SELECT datasets.register_detector(%s, %s, %s)', 'has its model already', 'once', run, 'mine', b'x')


class Page(html.parser.HTMLParser):
    void = {'meta', 'img', 'br', 'link'}

    def __init__(self, text):
        super().__init__()
        self.open, self.bad, self.outside, self.images, self.text = [], [], [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for k, v in attrs:
            if k in ('src', 'href') and not (v or '').startswith('data:'):
                self.outside.append(v)
        self.images += tag == 'img'
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.bad.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def looking(db):
    for f in ('plot_classes', 'plot_box_sizes', 'plot_box_areas', 'plot_box_centres'):
        for name in ('coco8', 'empty'):
            if name == 'empty':
                db.execute("SELECT datasets.create_dataset('empty') WHERE NOT EXISTS (SELECT FROM datasets.datasets WHERE dataset = 'empty')")
            try:
                svg = one(db, f'SELECT datasets.{f}(%s)', name)
                tap.ok(svg is None and name == 'empty' or xml.dom.minidom.parseString(svg), f'{f}({name}) is XML')
            except Exception as e:
                tap.ok(False, f'{f}({name}) is XML: {e}')
    info = rows(db, "SELECT (image_info(datasets.sheet_of_class('coco8', 0))).*")[0]
    tap.ok(info[0] == 'jpeg' and info[1] > 300, f'a contact sheet of people: {info[1]} x {info[2]}')
    tap.same(one(db, "SELECT datasets.sheet_of_class('coco8', 79)"), None, 'no sheet of a class without images')
    db.execute("UPDATE datasets.datasets SET description = '<script>alert(1)</script> & more' WHERE dataset = 'coco8'")
    for name in ('coco8', 'photos:1', 'fix', 'empty'):
        page = Page(one(db, 'SELECT datasets.report(%s)', name))
        tap.ok(not page.bad and not page.open and not page.outside, f'report({name}): one well-formed page, {page.images} pictures, nothing from outside')
        if name == 'coco8':
            text = ' '.join(page.text)
            figures = rows(db, "SELECT round(map50::numeric, 4)::text FROM datasets.evaluations WHERE dataset = 'coco8'")
            tap.ok('<script>' in text and all(f in text for f, in figures) and page.images > 5, 'texts are texts; figures are those of the views')
    refused(db, "SELECT datasets.report('nobody')", 'does not exist', 'a data set that is not there')


def main():
    folder = os.path.join(os.environ.get('MILLRACE_TMP', 'tmp/test_datasets'), 'pg')
    with Cluster(find_pg_config(), folder, conf={'fsync': 'off', 'shared_buffers': '256MB'}) as c, psycopg.connect(c.dsn(), autocommit=True) as db:
        db.execute('CREATE EXTENSION millrace')
        db.execute("SELECT millrace.create_pipeline('datasets', 'datasets', '{\"detector\": \"yolo:1\"}')")
        db.execute("SELECT millrace.import_model('yolo', %s)", (read(YOLO),))
        import_coco8(db)
        evaluation(db)
        suspects(db)
        frozen(db, fixes(db))
        looking(db)
    tap.done()


main()
