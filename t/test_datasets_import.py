#!/usr/bin/env python3
# timeout: 900
"""Data sets in and out: YOLO, COCO, Pascal VOC and class folders from rows, a server's directory, objects of a store (a real
MinIO) and tools/millrace-import; thirty broken files; what a second import changes; what other readers make of an export.  Prints TAP."""
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minio
from lib.cluster import REPO, SqlError, open_path
from lib.stream import clean_log, cluster, folder, literal
from lib.tap import data, done, note, ok, same, skip_all

try:
    import psycopg
    from PIL import Image
except ImportError as e:
    skip_all('%s is not installed' % e.name)

NAME = 'test_datasets_import'
FULL = bool(os.environ.get('MILLRACE_FULL'))
COCO8 = data('coco8')
if not COCO8:
    skip_all('no real data (coco8)')


def files_of(root):
    """path: bytes of the files below a folder."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(pathlib.Path(root).rglob('*')) if p.is_file()}


def put(c, dataset, files, user='app'):
    with psycopg.connect(c.dsn(user=user)) as db, db.cursor() as cursor, cursor.copy('COPY datasets.files (dataset, path, content) FROM STDIN (FORMAT binary)') as copy:
        copy.set_types(['text', 'text', 'bytea'])
        for path, content in files.items():
            copy.write_row((dataset, path, content))


def bring(c, dataset, files, format='auto', options='{}'):
    """The counts of an import of these files."""
    put(c, dataset, files)
    return json.loads(c.value('SELECT datasets.import_files(%s, %s, %s)' % (literal(dataset), literal(format), literal(options)), user='app'))


def take(c, reference, format, options='{}', user='app'):
    with psycopg.connect(c.dsn(user=user)) as db:
        return {path: bytes(content) for path, content in db.execute('SELECT path, content FROM datasets.export_files(%s, %s, %s)', (reference, format, options))}


def counts_are(got, name, **expected):
    same({k: got[k] for k in expected}, expected, name)


def labels(c, dataset):
    """Everything that a data set says: (split, image, class, box rounded to 1e-3, crowd), sorted."""
    with psycopg.connect(c.dsn()) as db:
        rows = db.execute('SELECT i.split, i.path, coalesce(k.class_name, a.class_id::text), a.x1, a.y1, a.x2, a.y2, a.crowd FROM datasets.images_of(%s) i '
                          'LEFT JOIN datasets.annotations_of(%s) a USING (image_id) LEFT JOIN datasets.classes k ON k.dataset = i.dataset AND k.class_id = a.class_id', (dataset, dataset)).fetchall()
    return sorted(((s, p, k, *(None if v is None else round(v, 3) for v in box), crowd) for s, p, k, *box, crowd in rows), key=str)


def boxes(c, dataset):
    """The same without classes, which have names here and numbers there."""
    return sorted(r[:2] + r[3:] for r in labels(c, dataset))


def near(a, b, tolerance=1e-3):
    """The same labels, boxes within the tolerance."""
    return len(a) == len(b) and all(x[:3] == y[:3] and x[7] == y[7] and all(p == q or abs(p - q) <= tolerance + 1e-9 for p, q in zip(x[3:7], y[3:7])) for x, y in zip(a, b))


def problems(c, dataset):
    return c.psql('SELECT path, kind FROM datasets.problems WHERE dataset = %s ORDER BY 1, line, 2' % literal(dataset))


def picture(size=(40, 30), orientation=None, format='JPEG', seed=0):
    out = io.BytesIO()
    image = Image.new('RGB', size, (seed * 40 % 256, 90, 160))
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    image.save(out, format, **({'exif': exif} if orientation else {}))
    return out.getvalue()


# ---- the same labels in three forms -------------------------------------------

NAMES = ['class %d' % i for i in range(80)]


def truth():
    """coco8 as it is on disk, read here: [(split, file name, width, height, bytes, [(class, x1, y1, x2, y2)])]."""
    out = []
    for split in ('train', 'val'):
        for path in sorted(pathlib.Path(COCO8, 'images', split).iterdir()):
            w, h = Image.open(path).size
            boxes = []
            for line in open(os.path.join(COCO8, 'labels', split, path.stem + '.txt')):
                k, x, y, bw, bh = line.split()
                x, y, bw, bh = (float(v) for v in (x, y, bw, bh))
                boxes.append((int(k), (x - bw / 2) * w, (y - bh / 2) * h, (x + bw / 2) * w, (y + bh / 2) * h))
            out.append((split, path.name, w, h, path.read_bytes(), boxes))
    return out


def as_labels(known):
    return sorted(((split, name, NAMES[k], *(round(v, 3) for v in box), False) for split, name, _, _, _, boxes in known for k, *box in boxes), key=str)


def as_coco(known):
    files = {}
    for split in ('train', 'val'):
        rows = [r for r in known if r[0] == split]
        files['annotations/instances_%s2017.json' % split] = json.dumps({
            'images': [{'id': i, 'file_name': name, 'width': w, 'height': h} for i, (_, name, w, h, _, _) in enumerate(rows)],
            'annotations': [{'id': 100 * i + j, 'image_id': i, 'category_id': k + 1, 'bbox': [x1, y1, x2 - x1, y2 - y1], 'area': (x2 - x1) * (y2 - y1), 'iscrowd': 0}
                            for i, r in enumerate(rows) for j, (k, x1, y1, x2, y2) in enumerate(r[5])],
            'categories': [{'id': i + 1, 'name': n} for i, n in enumerate(NAMES)]}).encode()
        files.update({'%s2017/%s' % (split, name): content for _, name, _, _, content, _ in rows})
    return files


def as_voc(known):
    files = {}
    for split, name, w, h, content, boxes in known:
        files['JPEGImages/' + name] = content
        files['Annotations/%s.xml' % name[:-4]] = ('<annotation><folder>VOC</folder><filename>%s</filename><size><width>%d</width><height>%d</height></size>' % (name, w, h) + ''.join(
            '<object><name>%s</name><bndbox><xmin>%.6f</xmin><ymin>%.6f</ymin><xmax>%.6f</xmax><ymax>%.6f</ymax></bndbox></object>' % (NAMES[k], x1 + 1, y1 + 1, x2, y2)
            for k, x1, y1, x2, y2 in boxes) + '</annotation>').encode()
    for split in ('train', 'val'):
        files['ImageSets/Main/%s.txt' % split] = ''.join(r[1][:-4] + '\n' for r in known if r[0] == split).encode()
    files['ImageSets/Main/trainval.txt'] = ''.join(r[1][:-4] + '\n' for r in known).encode()
    return files


def forms(c):
    """coco8 in YOLO's form as it is on disk, and its conversions."""
    known = truth()
    yaml = ('path: ../datasets/coco8 # root\ntrain: images/train\nval: images/val\ntest: # optional\n\nnames:\n' + ''.join('  %d: %s\n' % (i, n) for i, n in enumerate(NAMES))
            + '\ndownload: https://example.org/coco8.zip\n').encode()
    disk = dict(files_of(COCO8), **{'data.yaml': yaml})
    n = sum(len(r[5]) for r in known)
    expected = as_labels(known)
    counts_are(bring(c, 'yolo', disk), 'coco8 as it is on disk', format='yolo', images=8, annotations=n, classes=80, problems=0, unchanged=0)
    ok(near(labels(c, 'yolo'), expected), 'has the boxes of its files')
    for name, files in (('coco', as_coco(known)), ('voc', as_voc(known))):
        counts_are(bring(c, name, files), 'the same as %s' % name, format=name, images=8, annotations=n, problems=0)
        ok(near(labels(c, name), expected), 'has the same boxes')
    same(c.psql("SELECT min(class_id), max(class_id) FROM datasets.classes WHERE dataset = 'coco'"), [('1', '80')], 'COCO keeps its numbers')
    bring(c, 'renumbered', as_coco(known), options='{"renumber": true}')
    same(c.psql("SELECT class_name FROM datasets.classes WHERE dataset = 'renumbered' AND class_id IN (0, 79) ORDER BY class_id"), [(NAMES[0],), (NAMES[79],)], 'or numbers from 0 on')
    for k, (split, name, w, h, content, boxes) in enumerate(known):
        if k == 0:
            same(c.psql("SELECT octet_length(content) FROM datasets.images WHERE dataset = 'yolo' AND path = %s" % literal(name)), [(str(len(content)),)], 'images are the files')
    same(c.psql("SELECT source FROM datasets.annotations JOIN datasets.images USING (image_id) WHERE dataset = 'yolo' AND path = '000000000009.jpg' ORDER BY annotation_id LIMIT 1"),
         [('labels/train/000000000009.txt:1',)], 'annotations say where they come from')
    same(c.value('SELECT count(*) FROM datasets.files'), '0', 'what was imported no longer waits')


def layouts(c):
    """Other ways in which these folders come."""
    box = b'0 0.5 0.5 0.5 0.5\n'
    whole = [('a', 10.0, 7.5, 30.0, 22.5)]
    j, p = picture(), picture(format='PNG')

    def splits(dataset):
        return c.psql('SELECT split, path, count(a.*) FROM datasets.images i LEFT JOIN datasets.annotations a USING (image_id) WHERE dataset = %s GROUP BY 1, 2 ORDER BY 1, 2' % literal(dataset))
    bring(c, 'roboflow', {'train/images/1.jpg': j, 'train/labels/1.txt': box, 'valid/images/2.png': p, 'valid/labels/2.txt': box,
                          'data.yaml': b"train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['a']\n"})
    same(splits('roboflow'), [('train', '1.jpg', '1'), ('val', '2.png', '1')], 'YOLO with a folder a split')
    bring(c, 'lists', {'d/images/1.jpg': j, 'd/labels/1.txt': box, 'd/images/sub/2.jpg': j, 'd/labels/sub/2.txt': box, 'd/train.txt': b'./images/1.jpg\n', 'd/val.txt': b'/data/d/images/sub/2.jpg\n',
                       'd/data.yaml': b'path: /data/d\ntrain: train.txt\nval: val.txt\nnames: {0: a}\n'})
    same(splits('lists'), [('train', '1.jpg', '1'), ('val', 'sub/2.jpg', '1')], 'YOLO with lists of images')
    bring(c, 'named', {'set/images/first/1.jpg': j, 'set/labels/first/1.txt': box, 'set/images/second/1.jpg': j, 'set/labels/second/1.txt': box,
                       'set/data.yaml': b'train: images/first\nval: images/second\nnames: [a]\n'})
    same(splits('named'), [('train', '1.jpg', '1'), ('val', '1.jpg', '1')], 'YOLO with folders of any name')
    bring(c, 'flat', {'1.jpg': j, '1.txt': box, '2.JPG': j, '2.txt': b'', 'classes.txt': b'a\nb\n', 'README.txt': b'hello'})
    same((splits('flat'), problems(c, 'flat')), ([('train', '1.jpg', '1'), ('train', '2.JPG', '0')], []), 'YOLO in one folder, names in classes.txt')
    bring(c, 'backslashes', {'images\\train\\1.jpg': j, 'labels\\train\\1.txt': box, './images/train//2.jpg': j})
    same(splits('backslashes'), [('train', '1.jpg', '1'), ('train', '2.jpg', '0')], 'backslashes, ./ and //')
    bring(c, 'beside', {'train/1.jpg': j, 'train/1.xml': b'<annotation><filename>1.jpg</filename><object><name>a</name><bndbox><xmin>10</xmin><ymin>7.5</ymin><xmax>30</xmax><ymax>22.5</ymax></bndbox></object></annotation>'},
          options='{"voc_origin": 0}')
    same(labels(c, 'beside'), [('train', '1.jpg', *whole[0], False)], 'VOC beside the images, from 0 on')
    bring(c, 'own splits', {'images/fold1/1.jpg': j, 'labels/fold1/1.txt': box, 'images/2.jpg': j}, options='{"splits": ["fold1"], "split": "rest"}')
    same(splits('own splits'), [('fold1', '1.jpg', '1'), ('rest', '2.jpg', '0')], 'splits of one\'s own')
    bring(c, 'coco export', {'train/1.jpg': j, 'train/_annotations.coco.json': json.dumps({'images': [{'id': 1, 'file_name': '1.jpg'}, {'id': 2, 'file_name': 'gone.jpg'}],
          'annotations': [{'image_id': 1, 'category_id': 5, 'bbox': [10, 7.5, 20, 15]}, {'image_id': 2, 'category_id': 5, 'bbox': [1, 1, 2, 2]}], 'categories': [{'id': 5, 'name': 'a'}]}).encode()})
    same((splits('coco export'), problems(c, 'coco export')), ([('train', '1.jpg', '1'), ('train', 'gone.jpg', '1')], [('train/_annotations.coco.json', 'label_without_image')]),
         'COCO beside the images; labels of an image that is not there are kept')
    both = json.dumps({'images': [{'id': 1, 'file_name': '1.jpg'}], 'annotations': [{'image_id': 1, 'category_id': 5, 'bbox': [10, 7.5, 20, 15]}], 'categories': [{'id': 5, 'name': 'a'}]}).encode()
    bring(c, 'coco twice', {'images/1.jpg': j, 'images/2.jpg': j, 'annotations/instances_train.json': both, 'annotations/instances_val.json': both})
    same(splits('coco twice'), [('train', '1.jpg', '1'), ('train', '2.jpg', '0'), ('val', '1.jpg', '1')], 'a file that two splits name is in both')
    # A photo that its camera turned: labels are of what one sees.
    turned = picture((40, 30), orientation=6)
    bring(c, 'turned', {'images/train/1.jpg': turned, 'labels/train/1.txt': box})
    same(labels(c, 'turned'), [('train', '1.jpg', '0', 7.5, 10.0, 22.5, 30.0, False)], 'boxes of a photo with an EXIF orientation are of the upright one')
    same(c.psql("SELECT kind FROM datasets.problems WHERE dataset = 'turned'"), [], 'without a problem')


def class_folders(c):
    archive = data('cifar10_jpeg.tar.gz')
    if not archive:
        note('no real data (cifar10_jpeg.tar.gz): class folders not tested')
        return
    every, files, wanted = 1 if FULL else 10, {}, {}
    with tarfile.open(archive) as t:
        for n, m in enumerate(m for m in t if m.isfile()):
            if n % every == 0:
                split, name, file = m.name.split('/')[-3:]
                files['/'.join(('cifar', split, name, file))] = t.extractfile(m).read()
                wanted[split, name] = wanted.get((split, name), 0) + 1
    put(c, 'cifar', files)
    began = time.monotonic()
    got = json.loads(c.value("SELECT datasets.import_files('cifar')", user='app', timeout=600))
    note('%d images of class folders: %.1f s' % (len(files), time.monotonic() - began))
    counts_are(got, 'CIFAR-10 in class folders', format='folders', images=len(files), annotations=len(files), classes=10, problems=0)
    same({(s, k): int(n) for s, k, n in c.psql("SELECT split, class_name, count(*) FROM datasets.images i JOIN datasets.annotations a USING (image_id) JOIN datasets.classes k USING (dataset, class_id) "
                                              "WHERE dataset = 'cifar' AND x1 IS NULL AND path LIKE class_name || '/%' GROUP BY 1, 2")}, wanted, 'every image has its class')
    same(c.psql("SELECT class_name FROM datasets.classes WHERE dataset = 'cifar' ORDER BY class_id LIMIT 3"), [('airplane',), ('automobile',), ('bird',)], 'classes are numbered by alphabet')
    same(c.value("SELECT task FROM datasets.datasets WHERE dataset = 'cifar'"), 'classification', 'and it is a classification')
    same({p: b for p, b in take(c, 'cifar', 'folders').items()}, {p.partition('/')[2]: b for p, b in files.items()}, 'out again they are the same folders')
    j = picture()
    counts_are(bring(c, 'described', {'cat/1.jpg': j, 'dog/1.jpg': j, 'about.json': b'{"license": "MIT"}'}), 'another JSON beside them', format='folders', images=2, problems=0, ignored=1)
    bring(c, 'trains', {'bus/1.jpg': j, 'train/1.jpg': j, 'train/2.jpg': picture(seed=1)})
    same(c.psql("SELECT split, path, class_name FROM datasets.images JOIN datasets.annotations USING (image_id) JOIN datasets.classes USING (dataset, class_id) WHERE dataset = 'trains' ORDER BY 2"),
         [('train', 'bus/1.jpg', 'bus'), ('train', 'train/1.jpg', 'train'), ('train', 'train/2.jpg', 'train')], 'a class may be called train')


# ---- what is broken -----------------------------------------------------------

GOOD = b'0 0.5 0.5 0.5 0.5\n'
YOLO_BROKEN = {                                           # name of the file: (bytes of its labels, kinds, boxes that remain)
    'columns': (b'0 0.5 0.5 0.5\n' + GOOD, ['missing_columns'], 1),
    'class_only': (b'0\n', ['missing_columns'], 0),
    'too_many': (b'0 .5 .5 .5 .5 .5 .5 .5\n', ['extra_columns'], 0),
    'words': (b'0 a b c d\n' + GOOD, ['not_a_number'], 1),
    'commas': (b'0 0,5 0,5 0,5 0,5\n', ['not_a_number'], 0),
    'semicolons': (b'0;0.5;0.5;0.5;0.5\n', ['class_not_integer'], 0),
    'nan': (b'0 nan 0.5 0.5 0.5\n', ['not_finite'], 0),
    'inf': (b'0 0.5 inf 0.5 0.5\n', ['not_finite'], 0),
    'overflow': (b'0 1e400 0.5 0.5 0.5\n', ['number_too_large'], 0),
    'pixels': (b'0 20 15 10 10\n', ['not_normalised'], 0),
    'negative_class': (b'-1 0.5 0.5 0.5 0.5\n', ['class_negative'], 0),
    'huge_class': (b'99999999999 0.5 0.5 0.5 0.5\n', ['class_too_large'], 0),
    'float_class': (b'1.5 0.5 0.5 0.5 0.5\n', ['class_not_integer'], 0),
    'class_name': (b'dog 0.5 0.5 0.5 0.5\n', ['class_not_integer'], 0),
    'whole_float': (b'0.0 0.5 0.5 0.5 0.5\n', ['class_float'], 1),
    'utf16': ('0 0.5 0.5 0.5 0.5\n'.encode('utf-16'), ['utf16_file'], 0),
    'binary': (bytes(range(256)) * 4, ['binary_file'], 0),
    'latin1': ('0 0.5 0.5 0.5 0.5 é\n'.encode('latin-1'), ['invalid_utf8'], 0),
    'jpeg': (picture(), ['binary_file'], 0),
    'flood': (b'x\n' * 3000 + GOOD, ['class_not_integer', 'more_problems'], 1),
    'bom_crlf': (b'\xef\xbb\xbf0 0.5 0.5 0.5 0.5\r\n\r\n', [], 1),
    'empty': (b'', [], 0),
    'blank': (b'\n \n', [], 0),
    'polygon': (b'0 0.25 0.25 0.75 0.25 0.75 0.75\n', [], 1),
    'confidence': (b'0 0.5 0.5 0.5 0.5 0.9\n', [], 1),
    'outside': (b'0 0.9 0.9 0.5 0.5\n', [], 1),           # audit() finds these two
    'inverted': (b'0 0.5 0.5 -0.5 0.5\n', [], 1),
}
GOOD_OBJECT = '<object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>'
VOC_BROKEN = {
    'cut': ('<annotation>%s<object><name>a</na' % GOOD_OBJECT, ['invalid_xml'], 1),
    'mismatch': ('<annotation>%s<object></annotation>' % GOOD_OBJECT, ['invalid_xml'], 1),
    'laughs': ('<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>', ['xml_doctype'], 0),
    'entity': ('<annotation><object><name>&x;</name></object></annotation>', ['xml_entity'], 0),
    'deep': ('<annotation>' + '<a>' * 1000, ['xml_too_deep'], 0),
    'html': ('<html></html>', ['wrong_format'], 0),
    'no_box': ('<annotation><object><name>a</name></object>%s</annotation>' % GOOD_OBJECT, ['missing_key'], 1),
    'no_name': ('<annotation>%s</annotation>' % GOOD_OBJECT.replace('<name>a</name>', ''), ['missing_key'], 0),
    'letters': ('<annotation>%s</annotation>' % GOOD_OBJECT.replace('<xmin>1', '<xmin>one'), ['not_a_number'], 0),
    'twice': ('<annotation>%s</annotation>' % GOOD_OBJECT.replace('<name>a</name>', '<name>b</name><name>a</name>'), ['duplicate_key'], 1),
    'nothing': ('', ['empty_file'], 0),
    'size': ('<annotation><size><width>400</width><height>300</height></size>%s</annotation>' % GOOD_OBJECT, ['image_size_differs'], 1),
}
IMAGE = {'id': 1, 'file_name': '1.jpg'}
CAT = {'id': 1, 'name': 'a'}
RIGHT = {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [1, 1, 5, 5]}
COCO_BROKEN = {
    'cut': (json.dumps({'images': [IMAGE], 'categories': [CAT], 'annotations': [RIGHT, RIGHT]})[:-30], ['invalid_json'], 1),
    'nothing': ('', ['empty_file'], 0),
    'array': ('[1]', ['wrong_format'], 0),
    'other': ('{"shapes": []}', ['wrong_format'], 0),
    'nan': ('{"images": [%s], "categories": [%s], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [NaN, 1, 1, 1]}, %s]}' % tuple(map(json.dumps, (IMAGE, CAT, RIGHT))), ['not_finite'], 1),
    'no_box': (json.dumps({'images': [IMAGE], 'categories': [CAT], 'annotations': [{'image_id': 1, 'category_id': 1}, RIGHT]}), ['missing_key'], 1),
    'short_box': (json.dumps({'images': [IMAGE], 'categories': [CAT], 'annotations': [dict(RIGHT, bbox=[1, 2, 3]), RIGHT]}), ['missing_columns'], 1),
    'strings': (json.dumps({'images': [IMAGE], 'categories': [CAT], 'annotations': [dict(RIGHT, bbox=['1', '2', '3', '4']), RIGHT]}), ['wrong_type'], 1),
    'no_image': (json.dumps({'images': [IMAGE], 'categories': [CAT], 'annotations': [dict(RIGHT, image_id=9), RIGHT]}), ['unknown_image'], 1),
    'same_id': (json.dumps({'images': [IMAGE, IMAGE], 'categories': [CAT, CAT], 'annotations': [RIGHT]}), ['duplicate_id', 'duplicate_id'], 1),
    'same_key': ('{"images": [%s], "categories": [%s], "annotations": [{"image_id": 1, "category_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]}' % (json.dumps(IMAGE), json.dumps(CAT)), ['duplicate_key'], 1),
    'above': (json.dumps({'images': [dict(IMAGE, file_name='../../etc/passwd'), dict(IMAGE, id=2)], 'categories': [CAT], 'annotations': [RIGHT, dict(RIGHT, image_id=2)]}), ['bad_path'], 1),
}


def broken(c):
    """Each is a row of problems with its kind; none stops the import."""
    files = {}
    for name, (text, _, _) in YOLO_BROKEN.items():
        files['images/train/%s.jpg' % name] = picture()
        files['labels/train/%s.txt' % name] = text
    files.update({'labels/train/alone.txt': GOOD, 'images/train/unreadable.jpg': b'no image', 'labels/train/unreadable.txt': GOOD, 'images/train/without.jpg': picture(),
                  'images/train/one.png': picture(format='PNG'), 'images/train2017/one.png': picture(seed=1), '../outside.jpg': picture(), '/etc/absolute.jpg': picture(), 'C:\\windows.jpg': picture(), 'a\nb.jpg': picture(),
                  'data.yaml': b'train: images/train\nnames: [a, a]\nnc: 3\nname: x\nnames: [b]\n'})
    wanted = sorted((name, kind) for name, (_, kinds, _) in YOLO_BROKEN.items() for kind in kinds)
    wanted += [('alone', 'label_without_image'), ('unreadable', 'size_unknown'), ('one', 'duplicate_path'), ('data', 'class_count_differs'), ('data', 'duplicate_key'), ('', 'duplicate_class')]
    wanted += [(name, 'bad_path') for name in ('outside', 'absolute', 'C:\\windows', 'a\nb')]
    got = bring(c, 'broken yolo', files)
    same(sorted({(os.path.splitext(p.rsplit('/', 1)[-1])[0], k) for p, k in problems(c, 'broken yolo')}), sorted(set(wanted)), '%d broken things in YOLO\'s form: each is a problem' % len(wanted))
    same(got['images'], len(YOLO_BROKEN) + 3, 'the images are all there')
    same({n: int(k) for n, k in c.psql("SELECT regexp_replace(path, '\\..*', ''), count(a.*) FROM datasets.images JOIN datasets.annotations a USING (image_id) WHERE dataset = 'broken yolo' GROUP BY 1")},
         {n: k for n, (_, _, k) in YOLO_BROKEN.items() if k}, 'what can be read of labels, too')
    same(c.value("SELECT count(*) FROM datasets.problems p WHERE dataset = 'broken yolo' AND path LIKE '%flood%'"), '1001', 'a flood of problems is told a thousand times')
    again = bring(c, 'broken yolo', files)
    counts_are(again, 'a second import changes nothing', images=0, replaced=0, annotations=0, problems=got['problems'], version=1)
    same(int(c.value("SELECT count(*) FROM datasets.problems WHERE dataset = 'broken yolo'")), got['problems'], 'and doubles no problem')

    # done when each is a finding: those that could not be read, and the boxes that could
    run = c.value("SELECT datasets.audit('broken yolo', '{\"checks\": [\"files\", \"annotations\"]}')", user='app')
    same(c.psql("SELECT evidence ->> 'problem', count(*) FROM datasets.findings WHERE run_id = %s AND evidence ? 'problem' GROUP BY 1 ORDER BY 1" % run),
         c.psql("SELECT kind, count(*) FROM datasets.problems WHERE dataset = 'broken yolo' GROUP BY 1 ORDER BY 1"), 'an audit has a finding for each')
    same(c.psql("SELECT DISTINCT path, kind FROM datasets.findings f JOIN datasets.images i USING (image_id) WHERE run_id = %s AND path ~ '^(outside|inverted|unreadable)' AND NOT evidence ? 'problem' "
                "AND kind IN ('box_out_of_range', 'degenerate_box', 'corrupt_image') ORDER BY 1" % run),
         [('inverted.jpg', 'degenerate_box'), ('outside.jpg', 'box_out_of_range'), ('unreadable.jpg', 'corrupt_image')], 'and for boxes out of their image, inverted ones, what is no image')

    for form, cases, path in (('voc', VOC_BROKEN, '%s.xml'), ('coco', COCO_BROKEN, 'annotations.json')):
        wrong = {}
        for name, (text, kinds, boxes) in cases.items():
            dataset = 'broken %s %s' % (form, name)
            bring(c, dataset, {('%s.jpg' % name if form == 'voc' else '1.jpg'): picture(), (path % name if form == 'voc' else path): text.encode()}, form)
            found = (sorted(k for _, k in problems(c, dataset)), len([r for r in labels(c, dataset) if r[3] is not None]))
            if found != (sorted(kinds), boxes):
                wrong[name] = found
        same(wrong, {}, '%d broken files in the form of %s' % (len(cases), form))
    refused = []
    for sql in ("SELECT datasets.import_files('nosuch')", "SELECT datasets.import_files('yolo', 'tfrecord')", "SELECT datasets.import_files('yolo', 'yolo', '{\"splitz\": 1}')"):
        try:
            c.psql("INSERT INTO datasets.files VALUES ('yolo', 'x.jpg', '') ON CONFLICT DO NOTHING; " + sql, user='app')
        except SqlError as e:
            refused.append(e.sqlstate)
    c.psql('DELETE FROM datasets.files', user='app')
    same(refused, ['P0002', '22023', '22023'], 'no files, formats and options that do not exist are errors')


# ---- a second time ------------------------------------------------------------

def again(c):
    first = {'images/train/1.jpg': picture(), 'images/train/2.jpg': picture(seed=1), 'labels/train/1.txt': GOOD, 'labels/train/2.txt': GOOD, 'data.yaml': b'names: [a, b]\ntrain: images/train\n'}
    counts_are(bring(c, 'again', first), 'a data set', images=2, annotations=2, version=1)
    before = c.psql("SELECT image_id, annotation_id FROM datasets.annotations_of('again') ORDER BY 1", user='app')
    state = c.value("SELECT datasets.dataset_state('again')", user='app')
    counts_are(bring(c, 'again', first), 'the same again is nothing', images=0, replaced=0, unchanged=2, annotations=0, version=1)
    same(c.value("SELECT datasets.dataset_state('again')", user='app'), state, 'its state is the same')
    counts_are(bring(c, 'again', {'labels/train/2.txt': b'1 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.5 0.5\n', 'data.yaml': first['data.yaml']}), 'labels alone find their image', images=0, unchanged=1, annotations=2, version=1)
    same(c.psql("SELECT image_id FROM datasets.annotations_of('again') WHERE class_id = 0"), [(before[0][0],)], 'the others stay')
    c.psql("INSERT INTO datasets.facts (image_id, content_sha256, seen_by) SELECT image_id, '', 0 FROM datasets.images WHERE dataset = 'again'", user='app')
    counts_are(bring(c, 'again', {'images/train/1.jpg': picture(seed=3)}), 'a changed image', images=0, replaced=1, annotations=0, version=1)
    same(c.psql("SELECT path FROM datasets.facts JOIN datasets.images USING (image_id) WHERE dataset = 'again'"), [('2.jpg',)], 'is to be measured again')
    same(len(labels(c, 'again')), 3, 'and keeps its labels')

    c.psql("SELECT datasets.begin_training('again')", user='app')
    frozen = labels(c, 'again:1')
    state = c.value("SELECT datasets.dataset_state('again:1')", user='app')
    counts_are(bring(c, 'again', {'images/train/2.jpg': picture(seed=1)}), 'the same into a frozen version is nothing', version=1, unchanged=1)
    counts_are(bring(c, 'again', {'images/train/1.jpg': picture(seed=4), 'labels/train/2.txt': GOOD, 'images/train/3.jpg': picture(seed=5), 'data.yaml': first['data.yaml']}),
               'what differs from a frozen version makes the next one', version=2, images=1, replaced=1)
    same((labels(c, 'again:1'), c.value("SELECT datasets.dataset_state('again:1')", user='app')), (frozen, state), 'the frozen one is as it was')
    same([(r[1], r[2]) for r in labels(c, 'again')], [('1.jpg', 'a'), ('2.jpg', 'a'), ('3.jpg', None)], 'the new one has what is new, and the labels of the image that was replaced')
    same(c.psql("SELECT version, action FROM datasets.versions WHERE dataset = 'again' ORDER BY 1"), [('1', 'import'), ('2', 'import')], 'versions say so')
    counts_are(bring(c, 'again', {'images/train/1.jpg': picture(seed=6), 'labels/train/1.txt': b'1 0.5 0.5 0.5 0.5\n', 'data.yaml': first['data.yaml']}), 'in a version that is not frozen', version=2, replaced=1, annotations=1)
    same((labels(c, 'again:1'), [(r[1], r[2]) for r in labels(c, 'again')]), (frozen, [('1.jpg', 'b'), ('2.jpg', 'a'), ('3.jpg', None)]), 'rows are changed in place')


def together(c):
    """Two imports of one data set: the second waits, and finds what the first has left."""
    put(c, 'together', {'images/train/1.jpg': picture()})
    one, two = c.session(user='app'), c.session(user='app')
    try:
        one.run("BEGIN; SELECT datasets.import_files('together')")
        two.send("SELECT datasets.import_files('together')")
        c.wait_for("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", expect='1')
        one.run('COMMIT')
        try:
            two.collect()
            ok(False, 'the second finds no files')
        except SqlError as e:
            ok('wait to be imported' in str(e), 'the second finds no files')
    finally:
        one.close()
        two.close()
    same(c.psql("SELECT count(*), count(content) FROM datasets.images WHERE dataset = 'together'"), [('1', '1')], 'the image is there once, with its content')


# ---- out ----------------------------------------------------------------------

def out_again(c):
    """What an export says to other readers, and to ourselves."""
    known = truth()
    expected = as_labels(known)
    for source in ('yolo', 'coco', 'voc'):
        for form in ('yolo', 'coco', 'voc'):
            name = '%s as %s' % (source, form)
            counts_are(bring(c, name, take(c, source, form)), 'coco8 from %s out as %s and in again' % (source, form), format=form, images=8, problems=0)
            ok(near(labels(c, name), expected), 'is the same')

    # YOLO as Ultralytics reads it
    files = take(c, 'yolo', 'yolo')
    same(sorted(p for p in files if not p.startswith('labels/')), sorted(['data.yaml'] + ['images/%s/%s' % r[:2] for r in known]), 'YOLO: images and data.yaml')
    wrong = []
    for split, name, w, h, content, boxes in known:
        rows = [[float(v) for v in line.split()] for line in files['labels/%s/%s.txt' % (split, name[:-4])].decode().splitlines()]
        if files['images/%s/%s' % (split, name)] != content or len(rows) != len(boxes):
            wrong.append(name)
        for (k, x, y, bw, bh), (kk, x1, y1, x2, y2) in zip(rows, boxes):
            if int(k) != kk or max(abs((x - bw / 2) * w - x1), abs((y - bh / 2) * h - y1), abs((x + bw / 2) * w - x2), abs((y + bh / 2) * h - y2)) > 1e-3:
                wrong.append((name, k, kk))
    same(wrong, [], 'labels are within 1e-3 pixels')
    # COCO by its own reader
    files = take(c, 'coco', 'coco')
    try:
        import contextlib
        from pycocotools.coco import COCO
        with tempfile.NamedTemporaryFile('wb', suffix='.json') as f, contextlib.redirect_stdout(io.StringIO()):
            f.write(files['annotations/instances_val.json'])
            f.flush()
            coco = COCO(f.name)
        rows = [r for r in known if r[0] == 'val']
        same(sorted(i['file_name'] for i in coco.imgs.values()), [r[1] for r in rows], 'pycocotools: the images')
        by_name = {i['file_name']: i for i in coco.imgs.values()}
        same([(by_name[r[1]]['width'], by_name[r[1]]['height'], len(coco.getAnnIds(by_name[r[1]]['id']))) for r in rows], [(r[2], r[3], len(r[5])) for r in rows], 'their sizes and how many objects')
        same(sorted(k['id'] for k in coco.cats.values()), list(range(1, 81)), 'the categories')
        ok(all(a['area'] > 0 and a['iscrowd'] == 0 for a in coco.anns.values()), 'areas')
    except ImportError:
        note('pycocotools is not installed')
    # VOC as torchvision reads it
    files = take(c, 'voc', 'voc')
    wrong = []
    for split, name, w, h, _, boxes in known:
        root = xml.etree.ElementTree.fromstring(files['Annotations/%s.xml' % name[:-4]])
        got = [(o.findtext('name'), *(float(o.findtext('bndbox/' + k)) for k in ('xmin', 'ymin', 'xmax', 'ymax'))) for o in root.iter('object')]
        if (root.findtext('size/width'), root.findtext('filename')) != (str(w), name) or not all(
                g[0] == NAMES[k] and max(abs(g[1] - 1 - x1), abs(g[2] - 1 - y1), abs(g[3] - x2), abs(g[4] - y2)) < 1e-3 for g, (k, x1, y1, x2, y2) in zip(got, boxes)):
            wrong.append(name)
    same((wrong, sorted(files['ImageSets/Main/val.txt'].decode().split())), ([], [r[1][:-4] for r in known if r[0] == 'val']), 'VOC: boxes from 1 on, lists of splits')

    # names and paths that are hard on formats
    odd = ['<a> & "b"', "it's: #1", 'naïve 写真', '{x}', '- y', '\\n', '0']
    c.psql("SELECT datasets.create_dataset('odd', 'detection', %s)" % ('ARRAY[' + ', '.join(literal(n) for n in odd) + ']'), user='app')
    with psycopg.connect(c.dsn(user='app')) as db:
        for i, path in enumerate(['a b.jpg', 'x/y.png', 'x/y.jpg', "it's.jpg", '../up.jpg', 'm&m.jpg', 'no_labels.jpg']):
            id = db.execute("INSERT INTO datasets.images (dataset, path, content) VALUES ('odd', %s, %s) RETURNING image_id", (path, picture(seed=i))).fetchone()[0]
            if i < 6:
                db.execute("INSERT INTO datasets.annotations (image_id, class_id, x1, y1, x2, y2, crowd) VALUES (%s, %s, 1.5, 2, 20, 20.25, %s), (%s, 6, 0, 0, 40, 30, false)", (id, i, i == 0, id))
    for form in ('yolo', 'coco', 'voc'):
        files = take(c, 'odd', form, '{"crowds": true}')
        ok(not [p for p in files if '..' in p.split('/') or p.startswith('/')], '%s: no path leads out' % form)
        counts_are(bring(c, 'odd ' + form, files), 'odd names in the form of %s' % form, images=7, annotations=12, problems=0)
        tidy = lambda d: sorted((r[2:7] + ((r[7],) if form != 'yolo' else ())) for r in labels(c, d) if r[3] is not None)
        ok(tidy('odd ' + form) == tidy('odd'), 'classes, boxes%s are the same' % (' and crowds' if form != 'yolo' else ''))
    same(len([p for p in take(c, 'odd', 'yolo', '{"images": false}') if not p.startswith('labels/')]), 1, 'labels without their images')
    same({p.split('/')[1] for p in take(c, 'yolo', 'yolo', '{"splits": ["val"]}') if '/' in p}, {'val'}, 'some splits only')
    crowd = take(c, 'odd', 'yolo')['labels/train/a b.txt'].decode().splitlines()
    same(len(crowd), 1, 'YOLO has no crowds: they stay behind unless asked')


# ---- ways in and out ----------------------------------------------------------

def directories(c):
    """A directory of the server: for members of two roles only, and nothing by links."""
    root = pathlib.Path(tempfile.mkdtemp(prefix='millrace-sets-'))
    try:
        shutil.copytree(COCO8, root / 'in', ignore=shutil.ignore_patterns('*.cache'))
        (root / 'secret.txt').write_text('secret')
        (root / 'in/images/train/link.jpg').symlink_to(root / 'in/images/train/000000000009.jpg')
        (root / 'in/images/away').symlink_to('/etc')
        (root / 'in/labels/train/secret.txt').symlink_to(root / 'secret.txt')
        (root / 'out').mkdir()
        for p in [root, *root.rglob('*')]:
            if not p.is_symlink():
                p.chmod(0o777 if p.is_dir() else 0o644)
        open_path(root)
        refused = {}
        calls = {'import': "SELECT datasets.import_directory('d', '%s/in')" % root, 'list': "SELECT count(*) FROM millrace.directory_files('%s')" % root,
                 'read': "SELECT millrace.directory_read('%s', 'secret.txt')" % root, 'export': "SELECT datasets.export_to_directory('yolo', 'yolo', '%s/out')" % root,
                 'write': "SELECT millrace.directory_write('%s/out', 'x', '')" % root}
        for name, sql in calls.items():
            try:
                c.psql(sql, user='app')
            except SqlError as e:
                refused[name] = e.sqlstate
        same(refused, dict.fromkeys(calls, '42501'), 'who is in neither role is refused')
        c.psql('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA millrace TO app')
        refused = {}
        for name, sql in calls.items():
            try:
                c.psql(sql, user='app')
            except SqlError as e:
                refused[name] = e.sqlstate
        same(refused, dict.fromkeys(calls, '42501'), 'and still is with EXECUTE on every function')
        c.psql('GRANT pg_read_server_files, pg_write_server_files TO app')
        got = json.loads(c.value(calls['import'], user='app'))
        counts_are(got, 'a directory of the server', format='yolo', images=8, problems=3)
        same(problems(c, 'd'), [(p, 'symbolic_link') for p in ('images/away', 'images/train/link.jpg', 'labels/train/secret.txt')], 'links are not followed, and told of')
        counts_are(json.loads(c.value(calls['import'], user='app')), 'again is nothing', images=0, unchanged=8, problems=3)
        ok(boxes(c, 'd') == boxes(c, 'yolo'), 'with its labels')
        bad = {}
        for path in ('../secret.txt', '/etc/passwd', 'labels/train/secret.txt', 'images/away/passwd', 'images', '', 'images//train', './data.yaml', 'images/train/'):
            try:
                c.psql('SELECT millrace.directory_read(%s, %s)' % (literal(str(root / 'in')), literal(path)), user='app')
                bad[path] = 'read'
            except SqlError as e:
                if 'secret' in str(e.message) and path == '':
                    bad[path] = e.message
        same(bad, {}, 'no path leads out of the directory')
        try:
            c.psql("SELECT * FROM millrace.directory_files('relative')", user='app')
            ok(False, 'a relative directory is refused')
        except SqlError as e:
            same(e.sqlstate, '42602', 'a relative directory is refused')

        same(c.value(calls['export'], user='app'), '17', 'out into a directory')
        same(files_of(root / 'out'), take(c, 'yolo', 'yolo'), 'the files are the rows')
        try:
            c.psql(calls['export'], user='app')
            ok(False, 'nothing is overwritten')
        except SqlError as e:
            same(e.sqlstate, '58P02', 'nothing is overwritten')
        c.psql("SELECT datasets.export_to_directory('yolo', 'yolo', '%s/out', overwrite => true)" % root, user='app')
        same(sorted(p.name for p in (root / 'out').rglob('.millrace*')), [], 'unless asked; and no half file stays')
        (root / 'out/labels').rename(root / 'labels')
        (root / 'out/labels').symlink_to(root / 'labels')
        try:
            c.psql("SELECT datasets.export_to_directory('yolo', 'yolo', '%s/out', overwrite => true)" % root, user='app')
            ok(False, 'nor is anything written by a link')
        except SqlError as e:
            ok(e.sqlstate in ('58P01', '58030', 'XX000', '42809') or 'could not' in e.message, 'nor is anything written by a link')
            note(e.message)
    finally:
        c.psql('REVOKE pg_read_server_files, pg_write_server_files FROM app')
        shutil.rmtree(root)


def tool(c):
    """tools/millrace-import, as from a laptop."""
    root = pathlib.Path(tempfile.mkdtemp(prefix='millrace-tool-'))
    env = dict(c.env(), PATH='%s:%s' % (c.bin, os.environ['PATH']), PGUSER='app')

    def call(*args):
        done = subprocess.run([sys.executable, str(REPO / 'tools/millrace-import'), *map(str, args)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
        return done.returncode, done.stdout
    try:
        shutil.copytree(COCO8, root / 'in')
        (root / 'in/images/train/.hidden.jpg').write_bytes(b'')
        status, text = call('--dry-run', root / 'in', 'laptop')
        ok(status == 0 and '8 images, 8 files of labels' in text and c.value("SELECT count(*) FROM datasets.datasets WHERE dataset = 'laptop'") == '0', 'a dry run says what it would do')
        status, text = call(root / 'in', 'laptop', '--batch', '1', '--no-import')
        same((status, c.value("SELECT count(*) FROM datasets.files WHERE dataset = 'laptop'")), (0, '16'), 'files are sent')
        c.psql("DELETE FROM datasets.files WHERE path LIKE '%25.jpg'; UPDATE datasets.files SET content = 'x' WHERE path LIKE '%30.txt'", user='app')
        status, text = call(root / 'in', 'laptop')
        ok(status == 0 and '14 files are there already' in text and 'read as yolo: 8 new images' in text, 'the second attempt sends what is missing or another')
        ok(boxes(c, 'laptop') == boxes(c, 'yolo'), 'and the data set is right')
        status, text = call('--export', root / 'out', 'laptop')
        same((status, files_of(root / 'out')), (0, take(c, 'laptop', 'yolo')), 'an export is a folder')
        same(call('--export', root / 'out', 'laptop')[0], 0, 'again into the same folder changes nothing')
        (root / 'out/data.yaml').write_text('mine')
        status, text = call('--export', root / 'out', 'laptop')
        ok(status == 1 and 'overwrite' in text and (root / 'out/data.yaml').read_text() == 'mine', 'a file that differs is not overwritten')
        same((call('--export', root / 'out', 'laptop', '--overwrite')[0], files_of(root / 'out')), (0, take(c, 'laptop', 'yolo')), 'unless asked')
        status, text = call('--export', root / 'run', 'laptop:1', '--format', 'training', '--options', '{"epochs": 3}')
        ok(status == 0 and 'epochs: 3' in (root / 'run/train.yaml').read_text() and json.loads((root / 'run/lineage.json').read_text())['dataset'] == 'laptop', 'an export for training has its hyper-parameters and lineage')
        status, text = call('--export', root / 'none', 'nosuch')
        ok(status == 1 and 'data set "nosuch" does not exist' in text, 'errors are told')
        status, text = call(root / 'in', "it's \\ odd")
        ok(status == 0 and c.value("SELECT count(*) FROM datasets.images WHERE dataset = 'it''s \\ odd'") == '8', 'any name can be a data set\'s')
    finally:
        shutil.rmtree(root)


def objects(c):
    """From a store, by keys and by a manifest."""
    try:
        import boto3        # noqa: F401
        minio.program()
    except (ImportError, RuntimeError) as e:
        note('no MinIO (%s): not tested' % ' '.join(str(e).split())[:200])
        return
    with minio.Minio(folder(NAME)) as store:
        store.s3.create_bucket(Bucket='lake')
        files = {p: b for p, b in files_of(COCO8).items() if p.endswith(('.jpg', '.txt'))}
        for path, content in files.items():
            store.s3.put_object(Bucket='lake', Key='sets/coco8/' + path, Body=content)
        store.s3.put_object(Bucket='lake', Key='sets/coco8/files.txt', Body='\n'.join(list(files) + ['images/train/missing.jpg', '../../other.jpg', '']).encode())
        c.psql("SELECT millrace.start(); CREATE SERVER s3 FOREIGN DATA WRAPPER millrace_http OPTIONS (api 's3', url %s, max_attempts '2', backoff_ms '100'); GRANT USAGE ON FOREIGN SERVER s3 TO app; "
               "CREATE USER MAPPING FOR app SERVER s3 OPTIONS (access_key %s, secret_key %s)" % tuple(map(literal, (store.url, store.access_key, store.secret_key))))
        try:
            c.psql("SELECT datasets.import_objects('s', 'lake/sets/coco8', ARRAY['x.jpg'])", user='app')
            ok(False, 'without a server it says so')
        except SqlError as e:
            same(e.sqlstate, '55000', 'without a server it says so')
        c.psql("UPDATE datasets.settings SET server = 's3'", user='app')
        keys = 'ARRAY[' + ', '.join(map(literal, files)) + ']'
        same(c.value("SELECT datasets.import_objects('by keys', 'lake/sets/coco8', %s)" % keys, user='app'), str(len(files)), 'objects by their keys')
        same(c.value("SELECT datasets.import_objects('by list', 's3://lake/sets/coco8/', manifest => 'files.txt')", user='app'), '1', 'and by a list of them')
        c.wait_for("SELECT count(*) FILTER (WHERE state = 'waiting') || ' ' || count(*) FROM datasets.fetches", expect='0 %d' % (2 * len(files) + 2), timeout=120)
        same(c.psql("SELECT path, sqlstate FROM datasets.fetches WHERE state = 'failed'"), [('images/train/missing.jpg', '58P01')], 'what is not there is told of; what would leave the folder is not asked for')
        for name in ('by keys', 'by list'):
            counts_are(json.loads(c.value('SELECT datasets.import_files(%s)' % literal(name), user='app')), 'a data set %s' % name, format='yolo', images=8, problems=0)
            ok(boxes(c, name) == boxes(c, 'yolo'), 'with its labels')
        c.psql('SELECT millrace.stop()')


def main():
    parts = (forms, layouts, class_folders, broken, again, together, out_again, directories, tool, objects)
    with cluster(NAME) as c:
        c.psql("CREATE EXTENSION millrace; CREATE ROLE app LOGIN IN ROLE millrace_admin; GRANT CREATE ON DATABASE postgres TO app")
        c.psql("SELECT millrace.create_pipeline('datasets')", user='app')
        for part in parts:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:] or part is forms:
                part(c)
        clean_log(c)
    done()


main()
