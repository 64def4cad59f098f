# timeout: 900
"""Duplicates and leakage of data sets: judged pairs of CIFAR-10 found, planted duplicates found and nothing else with them, audits that
compare only what is new, one image against all, reports, fixes.

5,000 images, MILLRACE_FULL=1 all 58,000.  MILLRACE_SHEETS=folder: contact sheets of 100 other hits as PNG, for people to judge."""
import csv
import io
import os
import random
import sys
import tarfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster
from lib.tap import data, done, note, ok, same, skip_all

try:
    import numpy as np
    import psycopg
    from PIL import Image, ImageDraw, ImageEnhance
except ImportError as e:
    skip_all('%s (t/requirements.txt)' % e)
archive, judged = data('cifar10_jpeg.tar.gz'), data('duplicates/cifar10_pairs.tsv')
if not archive or not judged:
    skip_all('no real data (cifar10_jpeg.tar.gz, duplicates/cifar10_pairs.tsv)')
FULL = bool(os.environ.get('MILLRACE_FULL'))
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_datasets_leaks')
random.seed(5)


def read_archive():
    """{'train/cat/0001.jpg': bytes}"""
    with tarfile.open(archive) as t:
        return {m.name.split('/', 1)[1]: t.extractfile(m).read() for m in t if m.isfile()}


def judged_pairs(files):
    """Pairs of files that people called duplicates, where the mapping to a test file is to be trusted."""
    with open(judged) as f:
        pairs = [('test/' + r['best_matching_test_file'].strip(), 'train/' + r['train_file'].strip())
                 for r in csv.DictReader(f, delimiter='\t') if float(r['corr']) > 0.9]
    return sorted({p for p in pairs if p[0] in files and p[1] in files})


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))


def jpeg(image, quality=90):
    out = io.BytesIO()
    image.save(out, 'JPEG', quality=quality, subsampling=0 if quality > 60 else 2)
    return out.getvalue()


def png(image):
    out = io.BytesIO()
    image.save(out, 'PNG')
    return out.getvalue()


PLANTS = {'copy': lambda i, raw: raw,
          'png': lambda i, raw: png(i),
          'quality 50': lambda i, raw: jpeg(i, 50),
          'resized': lambda i, raw: jpeg(i.resize((50, 50), Image.BICUBIC)),
          'smaller': lambda i, raw: jpeg(i.resize((24, 24), Image.LANCZOS)),
          'stretched': lambda i, raw: jpeg(i.resize((64, 40), Image.BICUBIC)),
          'brighter': lambda i, raw: jpeg(ImageEnhance.Brightness(i).enhance(1.25)),
          'darker': lambda i, raw: jpeg(ImageEnhance.Brightness(i).enhance(0.7)),
          'contrast': lambda i, raw: jpeg(ImageEnhance.Contrast(i).enhance(1.3)),
          'mirrored': lambda i, raw: jpeg(i.transpose(Image.FLIP_LEFT_RIGHT)),
          'upside down': lambda i, raw: jpeg(i.transpose(Image.FLIP_TOP_BOTTOM)),
          'turned right': lambda i, raw: jpeg(i.transpose(Image.ROTATE_270)),
          'turned left': lambda i, raw: jpeg(i.transpose(Image.ROTATE_90)),
          'turned by 180': lambda i, raw: jpeg(i.transpose(Image.ROTATE_180)),
          'cropped 3 %': lambda i, raw: jpeg(i.crop((0, 0, 31, 31)), 92),
          'cropped 6 %': lambda i, raw: jpeg(i.crop((1, 1, 31, 31)), 92),
          'cropped 9 %': lambda i, raw: jpeg(i.crop((1, 1, 31, 30)), 92)}
CROPS = {k for k in PLANTS if k.startswith('cropped')}

files = read_archive()
truth = judged_pairs(files)
names = sorted(files)
if not FULL:
    kept = {f for p in truth for f in p}
    names = sorted(kept | set(random.sample([n for n in names if n not in kept], 5000 - len(kept))))
late = set(random.sample(names, len(names) // 100))     # come in afterwards


class Sets:
    """The data set in a server."""

    def __init__(self, c):
        self.db = psycopg.connect(c.dsn(), autocommit=True)

    def rows(self, sql, *args):
        return self.db.execute(sql, args or None).fetchall()

    def value(self, sql, *args):
        return self.rows(sql, *args)[0][0]

    def load(self, name, images):
        with self.db.cursor().copy('COPY datasets.images (dataset, split, path, content) FROM STDIN (FORMAT binary)') as copy:
            copy.set_types(['text', 'text', 'text', 'bytea'])
            for path in images:
                copy.write_row((name, *path.split('/', 1), images[path]))

    def audit(self, name):
        """Seconds of an audit that looks for leaks alone, and its run."""
        begin = time.monotonic()
        run = self.value("SELECT datasets.audit(%s, '{\"checks\": [\"leaks\"]}')", name)
        return time.monotonic() - begin, run

    def pairs(self, name):
        return {frozenset((r[0], r[1])): r[2:] for r in self.rows(
            "SELECT split_a || '/' || file_a, split_b || '/' || file_b, distance, reason, severity FROM datasets.resumen_fugas WHERE dataset = %s", name)}


def sheets(hits, to):
    """Contact sheets of pairs, 50 a page."""
    os.makedirs(to, exist_ok=True)
    for page in range(0, len(hits), 50):
        part, side = hits[page:page + 50], 96
        sheet = Image.new('RGB', (5 * (2 * side + 12), 10 * (side + 14)), 'white')
        draw = ImageDraw.Draw(sheet)
        for k, (a, b, text) in enumerate(part):
            x, y = k % 5 * (2 * side + 12), k // 5 * (side + 14)
            for n, f in enumerate((a, b)):
                sheet.paste(Image.fromarray(pixels(files[f])).resize((side, side), Image.BICUBIC), (x + n * (side + 2), y))
            draw.text((x, y + side), '%d: %s' % (page + k + 1, text), fill='black')
        sheet.save(os.path.join(to, 'leaks-%d.png' % (page // 50 + 1)))


def judged_found(s):
    s.rows("SELECT datasets.create_dataset('cifar', 'classification')")
    s.load('cifar', {n: files[n] for n in names if n not in late})
    first, run = s.audit('cifar')
    figures = s.value("SELECT figures -> 'seconds' FROM datasets.runs WHERE run_id = %s", run)
    before = s.pairs('cifar')
    s.load('cifar', {n: files[n] for n in late})
    second, run = s.audit('cifar')
    found = s.pairs('cifar')
    hits = [p for p in truth if frozenset(p) in found]
    note('%d images: audit for leaks %.1f s (%s), with 1 %% more %.2f s; %d pairs, %d of them between train and test' %
         (len(names), first, figures, second, len(found), sum(len({f.split('/')[0] for f in p}) == 2 for p in found)))
    note('judged pairs with corr > 0.9: %d of %d found; not: %s' % (len(hits), len(truth), [p for p in truth if frozenset(p) not in found]))
    ok(len(hits) >= 0.9 * len(truth), 'at least 90 % of the judged pairs are found')
    ok(all(found[frozenset(p)][2] == 'blocking' for p in hits), 'they are blocking, as they stand in two splits')
    ok(first < 300, 'within five minutes')
    ok(before.items() <= found.items(), 'what was found stays found when images come')
    ok(second < 0.5 * first, 'one percent more costs little: %.1f %%' % (100 * second / first))

    # From scratch, nothing else is found.
    s.db.execute('TRUNCATE datasets.leak_states, datasets.leaks')
    s.audit('cifar')
    whole = s.pairs('cifar')
    ok(set(whole) <= set(found), 'an audit of everything at once finds no pair that one in two steps did not')
    ok(len(whole) >= 0.97 * len(found), 'and nearly all of them: %d of %d, as it keeps the nearest of each image' % (len(whole), len(found)))
    if os.environ.get('MILLRACE_SHEETS'):
        known = {frozenset(p) for p in truth}
        others = sorted((tuple(sorted(p, key=lambda f: f.split('/')[0], reverse=True)) for p in whole if p not in known))
        chosen = random.sample(others, min(100, len(others)))
        sheets([(a, b, '%d %s' % whole[frozenset((a, b))][:2]) for a, b in chosen], os.environ['MILLRACE_SHEETS'])
    return whole


def planted(s, found):
    """Duplicates of known origin: which are found, and what else is found with them."""
    taken = {f for p in found for f in p}
    base = [n for n in names if n.startswith('train/') and n not in taken]
    base = random.sample(base, 400 if FULL else 80)
    plants = {}
    for n in base:
        image = Image.open(io.BytesIO(files[n])).convert('RGB')
        for kind, make in PLANTS.items():
            plants['planted/%s/%s' % (kind, n.replace('/', '-'))] = make(image, files[n])
    origin = {p: p.split('/')[2].replace('-', '/') for p in plants}
    s.load('cifar', plants)
    seconds, _ = s.audit('cifar')
    pairs = [p for p in s.pairs('cifar').items() if any(f in origin for f in p[0])]
    right = [p for p, _ in pairs if len({origin.get(f, f) for f in p}) == 1]
    wrong = [sorted(p) for p, _ in pairs if len({origin.get(f, f) for f in p}) > 1]
    linked = {f for p in right for f in p if f in origin and any(g == origin[f] for g in p)}
    for kind in PLANTS:
        n = sum(p.split('/')[1] == kind for p in plants)
        note('%-14s %5.1f %% of %d linked to the original' % (kind, 100 * sum(p.split('/')[1] == kind for p in linked) / n, n))
    note('%d pairs with planted images in %.1f s, precision %.2f %%; wrong: %s' % (len(pairs), seconds, 100 * len(right) / len(pairs), wrong[:5]))
    ok(len(right) >= 0.95 * len(pairs), 'of the pairs with planted duplicates at least 95 % are right')
    plain = [p for p in plants if p.split('/')[1] not in CROPS]
    ok(len(linked.intersection(plain)) >= 0.95 * len(plain), 'at least 95 %% of what was re-encoded, resized, flipped, turned, made brighter is found: %.2f %%' %
       (100 * len(linked.intersection(plain)) / len(plain)))
    by = s.pairs('cifar')
    n = base[0]
    same([by[frozenset((n, 'planted/%s/%s' % (k, n.replace('/', '-'))))][1:] for k in ('copy', 'mirrored', 'turned right')],
         [('same file', 'blocking'), ('near duplicate, mirrored', 'blocking'), ('near duplicate, turned left', 'blocking')], 'each says why')

    # One image against all.
    def look(path, at_most=100):
        return {(r[0] + '/' + r[1]): r[2] for r in s.rows('SELECT split, path, reason FROM datasets.check_image(%s, %s, %s)', 'cifar', plants.get(path) or files[path], at_most)}

    sample = random.sample(sorted(plants), 30)
    wanted = [(path, g, by[p][1]) for path in sample for p in by if path in p for g in p if g != path]
    got = {path: look(path, 1000) for path in sample}
    missed = [w for w in wanted if w[1] not in got[w[0]]]
    if not ok(not [w for w in missed if ',' not in w[2]], 'check_image() finds all that the audit found'):
        note(missed)
    ok(len(missed) < 0.02 * len(wanted), 'but few flipped ones at the border: it sees their hashes from one side only (%d of %d)' % (len(missed), len(wanted)))
    same(look(n)[n], 'same file', 'and the image itself')
    begin = time.monotonic()
    for path in sample:
        look(path)
    note('check_image: %.1f ms of %d images' % (1000 * (time.monotonic() - begin) / len(sample), s.value('SELECT count(*) FROM datasets.facts')))
    copy = 'planted/copy/' + n.replace('/', '-')
    s.db.execute("DELETE FROM datasets.images WHERE dataset = 'cifar' AND split || '/' || path = %s", (copy,))
    ok(copy not in look(n), 'an image that is deleted is not found any more')
    s.load('cifar', {copy: plants[copy]})
    s.rows("SELECT datasets.measure('cifar')")
    same(look(n).get(copy), 'same file', 'one that is put back, and measured, is')
    s.db.execute("UPDATE datasets.facts SET hashes = ARRAY(SELECT ~h FROM unnest(hashes) h), pixel_sha256 = sha256('') "
                 "WHERE image_id = (SELECT image_id FROM datasets.images WHERE split || '/' || path = %s)", (copy,))
    ok(copy not in look(n), 'facts that change count at once')
    s.audit('cifar')
    ok(not [p for p in s.pairs('cifar') if copy in p], 'and are compared again by the next audit')
    for content, code in ((b'no image', '22023'), (files[n][:300], None)):
        try:
            s.rows('SELECT * FROM datasets.check_image(%s, %s)', 'cifar', content)
            ok(code is None, 'a damaged image is refused or compared')
        except psycopg.Error as e:
            ok(e.sqlstate and e.sqlstate != 'XX000', 'what is no image is refused: %s' % e)

    # The report, read by somebody else's reader.
    text = s.value("SELECT datasets.leaks_csv('cifar')")
    table = list(csv.reader(io.StringIO(text, newline='')))
    same(table[0], ['split_a', 'file_a', 'split_b', 'file_b', 'distance', 'reason'], 'columns of the CSV')
    same(sorted(map(tuple, table[1:])), sorted(tuple(map(str, r)) for r in s.rows(
        "SELECT split_a, file_a, split_b, file_b, distance, reason FROM datasets.resumen_fugas WHERE dataset = 'cifar'")), 'the CSV is the view')


def groups(s):
    """Many equal images, odd names, splits to be cleaned."""
    image = Image.open(io.BytesIO(files[names[0]])).convert('RGB').resize((64, 64), Image.BICUBIC)
    odd = 'a "b", c\n,d.jpg'
    images = {'%s/%04d.jpg' % (('train', 'val', 'test')[k % 3], k): jpeg(image, 95 - k % 30) for k in range(1500)}
    images.update({'train/black %d.png' % k: png(Image.new('RGB', (40, 40))) for k in range(400)})
    images.update({'val/grey %d.png' % k: png(Image.new('RGB', (40, 40), (k, k, k))) for k in range(1, 200)})
    images['test/' + odd] = files[names[1]]
    images['train/' + odd] = files[names[1]]
    images['train/none.jpg'] = b'nothing'
    s.rows("SELECT datasets.create_dataset('equal', 'classification')")
    s.load('equal', images)
    seconds, run = s.audit('equal')
    kinds = dict(s.rows('SELECT kind, count(*) FROM datasets.findings WHERE run_id = %s GROUP BY kind', run))
    note('%d images, nearly all equal: %.1f s, %s' % (len(images), seconds, kinds))
    ok(sum(kinds.values()) < 25 * len(images), 'findings of equal images grow with their number, not with its square')
    same(s.rows("SELECT images, splits FROM datasets.leak_groups WHERE dataset = 'equal' ORDER BY images DESC"), [(1500, 3), (400, 1), (2, 2)],
         'groups: the photo, the black ones, the pair; even colours that differ are no duplicates')
    table = list(csv.reader(io.StringIO(s.value("SELECT datasets.leaks_csv('equal')"), newline='')))
    ok(['train', odd, 'test', odd, '0', 'same file'] in table or ['test', odd, 'train', odd, '0', 'same file'] in table, 'names with quotes, commas and line ends come back')
    s.rows("SELECT datasets.remove_leaks('equal')")
    s.audit('equal')
    same(s.rows("SELECT kind, count(*) FROM datasets.resumen_fugas WHERE dataset = 'equal' AND split_a <> split_b GROUP BY kind"), [], 'remove_leaks() leaves no leak')
    s.rows("SELECT datasets.remove_leaks('equal', within_splits => true)")
    s.audit('equal')
    same(s.value("SELECT count(*) FROM datasets.resumen_fugas WHERE dataset = 'equal' AND kind LIKE 'exact%%'"), 0, 'nor, if it is told, an exact duplicate')

    # Rules are the user's.
    s.rows("SELECT datasets.create_dataset('two')")
    s.load('two', {'train/a.jpg': jpeg(image, 95), 'test/b.jpg': jpeg(image, 40)})
    same(len(s.pairs('two')), 0, 'no audit, no report')
    s.audit('two')
    same([v[2] for v in s.pairs('two').values()], ['blocking'], 'a pair')
    s.rows("""SELECT datasets.audit('two', '{"checks": ["leaks"], "severity": {"near_leak": "info"}}')""")
    same([v[2] for v in s.pairs('two').values()], ['info'], 'severity of a run')
    s.rows("""SELECT datasets.audit('two', '{"checks": ["leaks"], "thresholds": {"near_leak": {"cosine": 1.1}}}')""")
    same(len(s.pairs('two')), 0, 'thresholds of a run')
    s.audit('two')
    same(len(s.pairs('two')), 1, 'and back')

    # Two images that only an older version has together, each of which was in an audit without the other.
    s.rows("SELECT datasets.create_dataset('versions')")
    s.load('versions', {'train/a.jpg': jpeg(image, 95), 'train/c.jpg': files[names[2]]})
    s.audit('versions')
    s.rows("SELECT datasets.new_version('versions', 'test')")
    s.load('versions', {'test/b.jpg': jpeg(image, 40)})
    s.rows("SELECT datasets.new_version('versions', 'test')")
    s.db.execute("UPDATE datasets.images SET until = 3 WHERE dataset = 'versions' AND path = 'a.jpg'")
    s.audit('versions')
    same(len(s.pairs('versions')), 0, 'the newest version has one of the two')
    s.audit('versions:2')
    same(list(s.pairs('versions')), [frozenset(('train/a.jpg', 'test/b.jpg'))], 'the one before has both')
    s.audit('versions')
    same(len(s.pairs('versions')), 0, 'and the newest still one')


def known_tools(s):
    """imagededup's own test images."""
    root = data('duplicates/imagededup')
    if not root:
        note('no imagededup images')
        return
    images = {}
    for sub in ('base_images', 'mixed_images'):
        for f in sorted(os.listdir(os.path.join(root, sub))):
            with open(os.path.join(root, sub, f), 'rb') as h:
                images['%s/%s' % (sub, f)] = h.read()
    s.rows("SELECT datasets.create_dataset('imagededup')")
    s.load('imagededup', images)
    s.audit('imagededup')
    pairs = s.pairs('imagededup')
    same([sorted(p) for p in pairs if all(f.startswith('base') for f in p)], [], 'imagededup: ten photos of ten things are no duplicates')
    for f, reason in (('ukbench00120_resize.jpg', 'near duplicate'), ('ukbench00120_hflip.jpg', 'near duplicate, mirrored'), ('ukbench00120.jpg', 'same file'), ('ukbench09268.jpg', 'same file')):
        same(pairs.get(frozenset(('base_images/%s.jpg' % f.split('.')[0].split('_')[0], 'mixed_images/' + f)), (None, None))[1], reason, 'imagededup: %s is found' % f)


with Cluster(os.environ['PG_CONFIG'], os.path.join(folder, 'pg'), conf={'shared_buffers': '512MB', 'fsync': 'off', 'work_mem': '32MB'}) as c:
    c.psql("CREATE EXTENSION millrace; SELECT millrace.create_pipeline('datasets')")
    s = Sets(c)
    found = judged_found(s)
    planted(s, found)
    groups(s)
    known_tools(s)
    s.db.close()
done()
