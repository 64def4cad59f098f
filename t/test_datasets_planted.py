# timeout: 1200
"""audit() against defects planted on purpose, against the files that cleanvision and imagededup test themselves with, and against
broken images: what is found, what is not, what a second audit costs, and two at once.

A part by name: t/test_datasets_planted.py planted | tools | rerun | life
"""
import csv
import io
import os
import sys
import tarfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, same, skip_all

try:
    import psycopg
    from PIL import Image
    from lib.plant import CLASSES, Garden, cifar, encoded, store
except ImportError as e:
    skip_all(str(e))
from lib.cluster import Cluster

if not data('cifar10_jpeg.tar.gz'):
    skip_all('no real data (cifar10_jpeg.tar.gz)')
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_datasets_planted')
MINE = '{"checks": ["files", "images", "annotations", "placement", "classes"]}'


def found(cur, dataset):
    """{kind: {what}} of the last audit: annotations as (image, number), else the path, or the split and class."""
    cur.execute('SELECT kind, path, annotation_id, split, class_name FROM d.latest_findings WHERE dataset = %s', (dataset,))
    return cur.fetchall()


def planted(cur):
    garden = Garden(cifar(400))
    _, labels = store(cur, 'd', 'garden', garden)
    # what an import would have noted
    cur.execute("INSERT INTO d.problems (dataset, path, line, kind, detail) SELECT 'garden', 'labels/' || n || '.txt', n, 'missing_columns', '4 columns' FROM generate_series(1, 20) n "
                "UNION ALL SELECT 'garden', n || '.json', NULL, 'invalid_json', 'the file ends' FROM generate_series(1, 20) n")
    cur.execute("SELECT d.audit('garden', %s)", (MINE,))
    got = {}
    for kind, path, annotation, split, class_name in found(cur, 'garden'):
        got.setdefault(kind, []).append(labels[annotation] if annotation else path)
    garden.allow('tiny_box', *garden.tiny_boxes)
    names = {p.name for p in garden.pictures}
    for kind in sorted(garden.planted):
        want, have = garden.planted[kind], set(got.get(kind, []))
        allowed = garden.allowed.get(kind, set())
        wrong = {h for h in have - want if h not in allowed and (h[0] if isinstance(h, tuple) else h) not in allowed}
        recall, precision = len(have & want) / len(want), len(have & want) / max(len(have & want) + len(wrong), 1)
        ok(recall >= .99 and precision >= .95, '%s: recall %.3f, precision %.3f of %d planted' % (kind, recall, precision, len(want)))
        if wrong:
            note('wrong: %s' % sorted(map(str, wrong))[:8])
        if recall < 1:
            note('missed: %s' % sorted(map(str, want - have))[:8])
    cur.execute("SELECT percentile_disc('{0,0.01,0.5,0.99}'::float8[]) WITHIN GROUP (ORDER BY f.fit) FROM d.fits f JOIN d.images USING (image_id) WHERE path LIKE 'clean%'")
    note('how boxes fit in clean images (least, 1 %%, median, 99 %%): %s' % cur.fetchone())
    cur.execute("SELECT max(f.fit), min(f.best) FROM d.fits f JOIN d.images USING (image_id) WHERE path LIKE 'misplaced%'")
    note('where they are misplaced: at most %.1f, and elsewhere at least %.1f' % cur.fetchone())
    clean = {(k, h) for k, hs in got.items() for h in hs if str(h[0] if isinstance(h, tuple) else h).startswith('clean')}
    same(clean, set(), 'nothing is found of the 600 clean images')
    same((len(got['import_problem']), len(got['unreadable_file'])), (20, 20), 'problems of an import are findings')
    cur.execute("SELECT count(*) FROM d.latest_findings WHERE suggestion IS NULL OR evidence = '{}' AND kind NOT IN ('background_image')")
    same(cur.fetchone()[0], 0, 'every finding has evidence and a suggestion')
    cur.execute("SELECT blocking > 0, trainable, stale, images FROM d.health WHERE dataset = 'garden'")
    same(cur.fetchone(), (True, False, False, len(names)), 'the data set is not to be trained on')
    cur.execute("SELECT d.findings_csv('garden')")
    rows = list(csv.reader(io.StringIO(cur.fetchone()[0])))
    cur.execute("SELECT count(*) FROM d.latest_findings")
    same((len(rows) - 1, {len(r) for r in rows}), (cur.fetchone()[0], {13}), 'findings as CSV')
    fix_and_again(cur)


def fix_and_again(cur):
    """Each fix that a kind names makes its findings go away."""
    cur.execute("SELECT d.drop_images('garden')")
    cur.execute("SELECT d.audit('garden', %s)", (MINE,))
    cur.execute("SELECT d.drop_boxes('garden')")
    cur.execute("SELECT d.audit('garden', %s)", (MINE,))
    cur.execute("SELECT d.clamp_boxes('garden')")
    cur.execute("SELECT d.audit('garden', %s)", (MINE,))
    cur.execute("SELECT DISTINCT kind FROM d.latest_findings WHERE severity = 'blocking'")
    same(sorted(r[0] for r in cur.fetchall()), ['unreadable_file', 'unsupported_image'], 'drop_images(), drop_boxes(), clamp_boxes(): what blocked is gone but what is no fix of theirs')


def classes(cur):
    """Kinds that are about a whole data set: one for each."""
    cur.execute("SELECT d.create_dataset('uneven', 'classification', '{a,b,c,d,e}')")
    counts = {'train': {0: 300, 1: 20, 2: 40}, 'val': {0: 400, 1: 100, 3: 7}}       # d only in val; c not in val; e nowhere
    for split, of in counts.items():
        for c, n in of.items():
            cur.execute("WITH i AS (INSERT INTO d.images (dataset, split, path, content) SELECT 'uneven', %s, %s || '/' || n || '.png', %s FROM generate_series(1, %s) n RETURNING image_id) "
                        "INSERT INTO d.annotations (image_id, class_id) SELECT image_id, %s FROM i", (split, str(c), encoded(Image.effect_noise((40, 40), 60).convert('RGB'), 'PNG'), n, c))
    cur.execute("SELECT d.audit('uneven', '{\"checks\": [\"classes\"]}')")
    got = {(k, s, c) for k, _, _, s, c in found(cur, 'uneven')}
    same(got, {('class_imbalance', 'train', 'b'), ('class_imbalance', 'val', 'd'), ('untrained_class', 'train', 'd'), ('missing_class', 'val', 'c'), ('missing_class', None, 'e'),
               ('small_class', 'val', 'd')}, 'rare, missing and untrained classes')
    cur.execute("SELECT class_name, weight FROM d.class_weights('uneven')")
    weights = dict(cur.fetchall())
    try:
        import numpy as np
        from sklearn.utils.class_weight import compute_class_weight
        y = np.repeat([0, 1, 2], [300, 20, 40])
        ok(np.allclose(compute_class_weight('balanced', classes=np.unique(y), y=y), [weights[c] for c in 'abc']), "class_weights() 'balanced' are scikit-learn's")
    except ImportError:
        pass
    cur.execute("SELECT class_name, weight FROM d.class_weights('uneven', 'effective', beta => 0.99)")
    e = {c: (1 - .99) / (1 - .99 ** n) for c, n in zip('abc', (300, 20, 40))}
    got = dict(cur.fetchall())
    ok(all(abs(got[c] - e[c] * 3 / sum(e.values())) < 1e-12 for c in 'abc'), "'effective' are those of Cui and others")
    cur.execute("SELECT class_id, min(repeats), max(repeats), avg(copies)::float8 FROM d.oversampling_plan('uneven', 0.5) GROUP BY 1 ORDER BY 1")
    rows = cur.fetchall()
    ok(all(abs(low - max(1, (.5 / (n / 360)) ** .5)) < 1e-9 and low == high and abs(copies - low) < .25 for (c, low, high, copies), n in zip(rows, (300, 20, 40))), 'oversampling_plan(): repeat factors of LVIS')


def folder_of(cur, dataset, files):
    cur.execute("SELECT d.create_dataset(%s, 'classification', '{x}')", (dataset,))
    for path, content in files:
        cur.execute('WITH i AS (INSERT INTO d.images (dataset, path, content) VALUES (%s, %s, %s) RETURNING image_id) INSERT INTO d.annotations (image_id, class_id) SELECT image_id, 0 FROM i',
                    (dataset, path, content))
    cur.execute("SELECT d.audit(%s, '{\"checks\": [\"files\", \"images\"]}')", (dataset,))
    got = {}
    for kind, path, *_ in found(cur, dataset):
        got.setdefault(kind, set()).add(path)
    return got


def tools(cur):
    """cleanvision's table of issue types (its README and tutorial) and imagededup's test data."""
    root = data('duplicates/cleanvision')
    if not root:
        return note('no data of cleanvision')
    # its ten issue images among ordinary ones, as its tutorial has them among 607
    files = [('cifar%03d.jpg' % i, b) for i, (_, b) in enumerate(cifar(200))]
    files = [(n, b) for n, b in files if Image.open(io.BytesIO(b)).convert('HSV').getextrema()[1][1] > 60]
    names = sorted(os.listdir(root))
    got = folder_of(cur, 'cleanvision', files + [(n, open(os.path.join(root, n), 'rb').read()) for n in names])
    for kind, want in (('dark', {'image_417.png'}), ('bright', {'image_588.png'}), ('odd_aspect', {'image_604.png'}), ('blurred', {'image_601.png'}),
                       # cleanvision goes by how pixels are stored, and passes over the grey placeholder, which is stored as RGB
                       ('grey', {'image_101.png', 'image_588.png'}), ('low_information', {'image_588.png', 'image_591.png', 'image_417.png'})):
        have = got.get(kind, set()) & set(names)
        if kind == 'low_information':       # the placeholder, and what is hardly more than one colour besides
            ok({'image_591.png'} <= have <= want, 'cleanvision: low_information: %s' % sorted(have))
        else:
            same(have, want, 'cleanvision: %s' % kind)
    root = data('duplicates/imagededup')
    if not root:
        return note('no data of imagededup')
    files = []
    for base, _, here in os.walk(root):
        files += [(os.path.relpath(os.path.join(base, n), root), open(os.path.join(base, n), 'rb').read()) for n in here]
    got = folder_of(cur, 'imagededup', files)
    bad = {p for k in ('corrupt_image', 'truncated_image', 'unsupported_image') for p in got.get(k, ())}
    want = {p for p, b in files if b[:2] != b'\xff\xd8' and b[:4] != b'\x89PNG'} | {p for p, b in files if 'corrupt' in p}
    same(bad, want, 'imagededup: what is neither JPEG nor PNG, or corrupt')
    same({p for p in got['corrupt_image'] if 'corrupt' in p}, {p for p, _ in files if 'corrupt' in p}, 'imagededup: the corrupt files')
    same(got['wrong_extension'], {'formats_images/ukbench09380.%s' % e for e in ('bmp', 'png', 'svg')}, 'imagededup: JPEG files by other names')
    ok('ukbench00120_gray.jpg' in got['grey'], 'imagededup: the grey image')
    for name in ('fuzz_corpus_half', 'pillow_half'):
        archive = data('malformed/%s.tar.gz' % name)
        if not archive:
            continue
        with tarfile.open(archive) as t:
            files = [('%d/%s' % (i, os.path.basename(m.name)), t.extractfile(m).read()) for i, m in enumerate(t) if m.isfile() and m.size < 4 << 20]
        started = time.monotonic()
        got = folder_of(cur, name, files)
        cur.execute("SELECT count(*) FILTER (WHERE f.sqlstate IS NOT NULL), count(*) FILTER (WHERE f.sqlstate IS NULL AND f.width IS NULL) FROM d.images i JOIN d.facts f USING (image_id) WHERE i.dataset = %s", (name,))
        broken, odd = cur.fetchone()
        bad = sum(len(got.get(k, ())) for k in ('corrupt_image', 'truncated_image', 'unsupported_image'))
        note('%s: %d of %d files cannot be decoded: %s; %.1f s' % (name, broken, len(files), {k: len(v) for k, v in got.items()}, time.monotonic() - started))
        same((bad, odd), (broken, 0), '%s: every file that cannot be decoded is a finding, and no audit fails' % name)


def rerun(cur):
    """1 % new images: at most 5 % of the first audit's processor time.  The images are as large as classifiers take them, 224 x 224: of CIFAR's
    own 32 x 32 pixels an image is measured in 80 µs, and what audits cost besides, 10 µs an image, counts for more."""
    images = cifar(20200)
    cur.execute("SELECT d.create_dataset('many', 'classification', %s)", (CLASSES,))

    def add(some, prefix):
        with cur.copy("COPY d.images (dataset, path, content) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(['text', 'text', 'bytea'])
            for i, (c, b) in enumerate(some):
                copy.write_row(('many', '%s/%s%05d.jpg' % (c, prefix, i), b))
        cur.execute("UPDATE d.images SET content = image_resize(content, 224, 224, 'stretch') WHERE dataset = 'many' AND path LIKE %s", ('%%/%s%%' % prefix,))
        cur.execute("INSERT INTO d.annotations (image_id, class_id) SELECT i.image_id, c.class_id FROM d.images i JOIN d.classes c ON c.dataset = i.dataset AND i.path LIKE c.class_name || '/%%' "
                    "WHERE i.dataset = 'many' AND NOT EXISTS (SELECT FROM d.annotations a WHERE a.image_id = i.image_id)")

    def audit(options):
        cur.execute('SELECT pg_backend_pid()')
        pid = cur.fetchone()[0]
        before, began = spent(pid), time.monotonic()
        cur.execute("SELECT d.audit('many', %s)", (options,))
        run, took = cur.fetchone()[0], time.monotonic() - began
        cpu = spent(pid) - before
        cur.execute('SELECT figures FROM d.runs WHERE run_id = %s', (run,))
        return cpu, took, cur.fetchone()[0]

    def by_image():
        cur.execute("SELECT kind, path, score, evidence::text FROM d.latest_findings WHERE dataset = 'many' AND path IS NOT NULL AND \"check\" IN ('files', 'images')")
        return set(cur.fetchall())
    add(images[:20000], 'a')
    cur.execute("UPDATE d.checks SET enabled = false WHERE \"check\" NOT IN ('files', 'images', 'annotations', 'classes', 'leaks')")
    first = audit('{}')
    whole = by_image()
    add(images[20000:], 'b')
    again = audit('{}')
    later = by_image()
    cur.execute('UPDATE d.checks SET enabled = true')
    ok(whole <= later and all('/b' in path for _, path, *_ in later - whole), 'what was found stays, what is new is of new images: %d, %d' % (len(whole), len(later)))
    same((first[2]['new_images'], again[2]['new_images']), (20000, 200), 'only new images are measured')
    note('first %.2f s of processor (%.2f s): %s' % (first[0], first[1], first[2]['seconds']))
    note('again %.2f s of processor (%.2f s): %s' % (again[0], again[1], again[2]['seconds']))
    note('an audit after 1 %% new images costs %.1f %% of the first' % (100 * again[0] / first[0]))
    ok(again[0] <= .05 * first[0], 'an audit after 1 % new images costs at most 5 % of the first')


def grown(cur):
    """What came in two parts is found to be what came at once, by all checks but noise, whose classifiers learnt from others."""
    images = cifar(2000)
    images += [(c, b) for c, b in images[:20]]          # duplicates, of both parts
    checks = '{"skip": ["noise", "suspects"]}'
    for name, parts in (('grown', (images[:1990], images[1990:])), ('whole', (images,))):
        cur.execute("SELECT d.create_dataset(%s, 'classification', %s)", (name, CLASSES))
        at = 0
        for part in parts:
            for c, b in part:
                cur.execute("WITH i AS (INSERT INTO d.images (dataset, split, path, content) VALUES (%s, %s, %s, %s) RETURNING image_id) "
                            "INSERT INTO d.annotations (image_id, class_id) SELECT image_id, %s FROM i",
                            (name, 'val' if at % 3 else 'train', '%s/%05d.jpg' % (c, at), b, CLASSES.index(c)))
                at += 1
            cur.execute('SELECT d.audit(%s, %s)', (name, checks))

    def what(name):
        cur.execute('SELECT kind, severity, split, path, other_split, other_path, class_name FROM d.latest_findings WHERE dataset = %s', (name,))
        return sorted(map(str, cur.fetchall()))
    two, one = what('grown'), what('whole')
    same(two, one, 'an audit of what came in two parts finds what one of the whole does')
    ok({'near_leak', 'exact_leak', 'latent_outlier', 'grey'} & {f.split("'")[1] for f in one} and len(one) > 30, '%d findings' % len(one))


def spent(pid):
    with open('/proc/%d/stat' % pid) as f:
        t = f.read().rsplit(')', 1)[1].split()
    return (int(t[11]) + int(t[12])) / os.sysconf('SC_CLK_TCK')


def life(c, cur):
    """Cancelled, run again, twice at once, measured apart, options."""
    cur.execute("SELECT d.create_dataset('life', 'classification', '{x}')")
    big = encoded(Image.effect_noise((1500, 1500), 80).convert('RGB'))
    cur.execute("INSERT INTO d.images (dataset, path, content) SELECT 'life', n || '.jpg', %s FROM generate_series(1, 300) n", (big,))
    with psycopg.connect(c.dsn(), autocommit=True) as other:
        caught, pid = [], other.info.backend_pid

        def go():
            try:
                other.execute("SELECT d.audit('life', '{\"checks\": [\"files\", \"images\"]}')")
            except psycopg.Error as e:
                caught.append(e.sqlstate)
        worker = threading.Thread(target=go)
        worker.start()
        seen, end = None, time.monotonic() + 60
        while time.monotonic() < end and not (seen and ': 64 of 300' in seen):
            cur.execute('SELECT application_name FROM pg_stat_activity WHERE pid = %s', (pid,))
            seen = cur.fetchone()[0]
            time.sleep(.05)
        same(seen, 'measuring life:1: 64 of 300 images', 'pg_stat_activity says how far an audit is')
        began = time.monotonic()
        cur.execute('SELECT pg_cancel_backend(%s)', (pid,))
        worker.join()
        ok(caught == ['57014'] and time.monotonic() - began < 2, 'an audit is cancelled at once')
        cur.execute("SELECT (SELECT count(*) FROM d.runs WHERE dataset = 'life'), (SELECT count(*) FROM d.facts JOIN d.images USING (image_id) WHERE dataset = 'life')")
        same(cur.fetchone(), (0, 0), 'and leaves nothing behind')
        other.execute("SELECT d.measure('life', 40)")
        cur.execute("SELECT count(*) FROM d.facts JOIN d.images USING (image_id) WHERE dataset = 'life'")
        same(cur.fetchone()[0], 40, 'measure() measures some')
        # two at once: the second waits, and measures nothing again
        cur.execute("DELETE FROM d.images WHERE dataset = 'life' AND path > '2'")
        worker = threading.Thread(target=go)
        worker.start()
        cur.execute("SELECT d.audit('life', '{\"checks\": [\"files\"]}')")
        worker.join()
        cur.execute("SELECT (figures ->> 'new_images')::int FROM d.runs WHERE dataset = 'life' ORDER BY 1")
        counts = [r[0] for r in cur.fetchall()]
        ok(len(counts) == 2 and counts[0] == 0 and counts[1] > 0, 'two audits at once take turns, and measure an image once: %s' % counts)
        cur.execute('SELECT application_name FROM pg_stat_activity WHERE pid = %s', (pid,))
        same(cur.fetchone()[0], '', 'the name of the session is what it was')
    cur.execute("CALL d.measure_all('life', 30)")
    cur.execute("UPDATE d.images SET content = %s WHERE dataset = 'life' AND path = '1.jpg'", (encoded(Image.effect_noise((64, 64), 80).convert('RGB')),))
    cur.execute("SELECT d.audit('life', '{\"checks\": [\"files\"]}')")
    cur.execute("SELECT figures -> 'new_images' FROM d.runs WHERE dataset = 'life' ORDER BY run_id DESC LIMIT 1")
    same(cur.fetchone()[0], 1, 'an image whose content has changed is measured again')


parts = sys.argv[1:] or ['planted', 'tools', 'rerun', 'life']
conf = {'shared_buffers': '256MB', 'max_wal_size': '1GB', 'fsync': 'off'}
with Cluster(os.environ['PG_CONFIG'], folder, conf=conf) as c:
    c.psql("CREATE EXTENSION millrace; SELECT millrace.create_pipeline('datasets', 'd')")
    with psycopg.connect(c.dsn(), autocommit=True) as con:
        cur = con.cursor()
        if 'planted' in parts:
            planted(cur)
            classes(cur)
        if 'tools' in parts:
            tools(cur)
        if 'rerun' in parts:
            rerun(cur)
            grown(cur)
        if 'life' in parts:
            life(c, cur)
done()
