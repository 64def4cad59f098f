"""millrace.detection_metrics() against pycocotools on synthetic data sets with crowds, misses, duplicates and ties; match_detections()
against Ultralytics' way of a confusion matrix, said again in numpy."""
import contextlib
import io
import os
import sys

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

AREAS = ('all', 'small', 'medium', 'large')


def box(rng, side, whole):
    size = np.exp(rng.uniform(np.log(6), np.log(250), 2))
    at = rng.uniform(0, 1, 2) * (side - size)
    b = np.concatenate([at, at + size])
    return np.round(b) if whole else np.float32(b).astype(float)


def data_set(seed, images=60, classes=4, whole=False, crowds=0.0, missed=0.1, doubled=0.0, ties=False, areas=False, noise=1.5):
    """Objects, and detections that are shifted, missed, doubled, of another class, or of nothing."""
    rng = np.random.default_rng(seed)
    truths, guesses = [], []

    def guess(image, c, b, score):
        guesses.append((image, c, b, float(np.float32(round(score, 1) if ties else score))))

    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 8)):
            b, c, crowd = box(rng, 640, whole), int(rng.integers(classes)), rng.random() < crowds
            area = float(np.float32(rng.uniform(0.3, 1) * (b[2] - b[0]) * (b[3] - b[1]))) if areas else None
            truths.append((image, c, b, area, bool(crowd)))
            for _ in range(3 if crowd else 0 if rng.random() < missed else 1 + (rng.random() < doubled) * 2):
                shift = rng.normal(0, 0.06, 4) * np.tile(b[2:] - b[:2], 2)
                g = np.round(b + shift) if whole else np.float32(b + shift).astype(float)
                if g[2] > g[0] and g[3] > g[1]:
                    guess(image, c if rng.random() < 0.9 else int(rng.integers(classes)), g, rng.beta(4, 2))
        for _ in range(rng.poisson(noise)):
            guess(image, int(rng.integers(classes)), box(rng, 640, whole), rng.beta(2, 4))
    return truths, guesses


def coco(truths, guesses, images, classes):
    """The peer: COCOeval after accumulate()."""
    wh = lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]]
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {'images': [{'id': i + 1} for i in range(images)], 'categories': [{'id': c} for c in range(classes)],
                      'annotations': [{'id': n + 1, 'image_id': i, 'category_id': c, 'bbox': wh(b), 'area': (b[2] - b[0]) * (b[3] - b[1]) if a is None else a, 'iscrowd': int(crowd)}
                                      for n, (i, c, b, a, crowd) in enumerate(truths)]}
        gt.createIndex()
        e = COCOeval(gt, gt.loadRes([{'image_id': i, 'category_id': c, 'bbox': wh(b), 'score': s} for i, c, b, s in guesses]), 'bbox')
        e.evaluate()
        e.accumulate()
    return e


def arrays(truths, guesses):
    flat = lambda rows: [float(x) for r in rows for x in r[2]]
    return [[t[0] for t in truths], [t[1] for t in truths], flat(truths), [t[3] for t in truths], [t[4] for t in truths],
            [g[0] for g in guesses], [g[1] for g in guesses], [g[3] for g in guesses], flat(guesses)]


CALL = '%s::bigint[], %s::int[], %s::real[], %s::real[], %s::boolean[], %s::bigint[], %s::int[], %s::real[], %s::real[]'


def metrics(db, truths, guesses):
    rows = db.execute(f'SELECT class_id, area, truths, ap, recalls, curve, curve_confidence, recall_1, recall_10, recall_max, map50, map75, map50_95, f1, threshold, "precision", recall '
                      f'FROM millrace.detection_metrics({CALL})', arrays(truths, guesses)).fetchall()
    names = ('class_id', 'area', 'truths', 'ap', 'recalls', 'curve', 'scores', 'r1', 'r10', 'r100', 'map50', 'map75', 'map', 'f1', 'threshold', 'precision', 'recall')
    return {(r[0], r[1]): dict(zip(names, r)) for r in rows}


def compare(db, name, images=60, classes=4, **how):
    truths, guesses = data_set(len(name), images, classes, **how)
    e, ours = coco(truths, guesses, images, classes), metrics(db, truths, guesses)
    worst = dict.fromkeys(('ap', 'curve', 'confidence', 'recall', 'few'), 0.0)
    for c in range(classes):
        for a, area in enumerate(AREAS):
            p, r, s = e.eval['precision'][:, :, c, a, 2], e.eval['recall'][:, c, a, :], e.eval['scores'][:, :, c, a, 2]
            o = ours.get((c, area))
            if (p < 0).all():
                assert o is None or o['truths'] == 0 and o['ap'] is None, (c, area, o)
                continue
            worst['ap'] = max(worst['ap'], np.abs(p.mean(1) - o['ap']).max())
            worst['curve'] = max(worst['curve'], np.abs(p[0] - o['curve']).max())
            worst['confidence'] = max(worst['confidence'], np.abs(s[0] - o['scores']).max())
            worst['recall'] = max(worst['recall'], np.abs(r[:, 2] - o['recalls']).max())
            worst['few'] = max(worst['few'], abs(r[:, 0].mean() - o['r1']), abs(r[:, 1].mean() - o['r10']))
    mean = ours[None, 'all']['map']
    peer = np.mean(e.eval['precision'][:, :, :, 0, 2][e.eval['precision'][:, :, :, 0, 2] > -1])
    tap.ok(max(worst.values()) < 1e-4 and abs(mean - peer) < 1e-4,
           '%s: %d objects, %d detections, mAP50-95 %.4f, theirs %.4f; greatest differences %s' % (name, len(truths), len(guesses), mean, peer, ', '.join('%s %.1e' % x for x in worst.items())))
    best_f1(truths, guesses, ours, classes, name)
    common_threshold(e, truths, guesses, ours, classes, name)


def common_threshold(e, truths, guesses, ours, classes, name):
    """One threshold for all classes: mean F1 over a grid of confidences, from the peer's matches of each detection."""
    f1 = []
    for at in range(1001):
        of_class = []
        for c in range(classes):
            ev = [x for x in e.evalImgs if x and x['category_id'] == c and x['aRng'] == e.params.areaRng[0]]
            n = sum((np.array(x['gtIgnore']) == 0).sum() for x in ev)
            tp = sum(((np.array(x['dtMatches'][0]) > 0) & ~x['dtIgnore'][0].astype(bool) & (np.float32(x['dtScores']) >= np.float32(at / 1000))).sum() for x in ev)
            fp = sum(((np.array(x['dtMatches'][0]) == 0) & ~x['dtIgnore'][0].astype(bool) & (np.float32(x['dtScores']) >= np.float32(at / 1000))).sum() for x in ev)
            if n:
                of_class.append(0 if tp == 0 else 2 * tp / (tp + fp + n))
        f1.append(np.mean(of_class))
    o = ours[None, 'all']
    tap.ok(abs(max(f1) - o['f1']) < 1e-6 and abs(f1[round(o['threshold'] * 1000)] - max(f1)) < 1e-6,
           f"{name}: best mean F1 {o['f1']:.4f} at confidence {o['threshold']}")


def best_f1(truths, guesses, ours, classes, name):
    """Precision, recall and F1 at the threshold that is said: counted again with just the detections above it."""
    wrong = 0
    for c in range(classes):
        o = ours[c, 'all']
        kept = [g for g in guesses if g[1] == c and g[3] >= np.float32(o['threshold']) - 1e-9]
        e = coco([t for t in truths if t[1] == c], kept, max(t[0] for t in truths), classes)
        wrong += abs(e.eval['recall'][0, c, 0, 2] - o['recall']) > 1e-6 or abs(2 / (1 / o['precision'] + 1 / o['recall']) - o['f1']) > 1e-6
    tap.same(wrong, 0, f'{name}: the recall at each class\'s threshold is that of the detections above it')


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return 0 if w <= 0 or h <= 0 else w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def matched(truths, guesses, threshold):
    """ConfusionMatrix.process_batch(): pairs by overlap, then each detection once, each object once."""
    pairs = sorted(((iou(t[2], g[2]), i, j) for i, t in enumerate(truths) for j, g in enumerate(guesses) if t[0] == g[0]), key=lambda x: -x[0])
    done_t, done_g, out = set(), set(), set()
    for o, i, j in pairs:
        if o > threshold and i not in done_t and j not in done_g:
            done_t.add(i), done_g.add(j), out.add((i + 1, j + 1))
    return out | {(i + 1, None) for i in range(len(truths)) if i not in done_t} | {(None, j + 1) for j in range(len(guesses)) if j not in done_g}


def matches(db):
    truths, guesses = data_set(77, doubled=0.4)
    ours = db.execute(f'SELECT truth, detection, in_crowd FROM millrace.match_detections({CALL}, 0.45)', arrays(truths, guesses)).fetchall()
    tap.same({(t, d) for t, d, _ in ours}, matched(truths, guesses, 0.45), f'match_detections: {len(ours)} rows as the peer pairs them')
    b = [10, 10, 110, 110]
    crowd = db.execute(f'SELECT truth, detection, in_crowd FROM millrace.match_detections({CALL})',
                       [[1], [0], b, [None], [True], [1, 1], [0, 0], [.9, .8], [20, 20, 40, 40, 300, 300, 310, 310]]).fetchall()
    tap.same(crowd, [(None, 1, True), (None, 2, False)], 'a detection in a crowd is neither right nor wrong')


def edges(db):
    empty = [[]] * 9
    tap.same([o['truths'] for o in metrics(db, [], []).values()], [0] * 4, 'nothing of nothing')
    one = metrics(db, [(1, 3, [0, 0, 50, 50], None, False)], [])[3, 'all']
    tap.same((one['map'], one['r100'], one['truths']), (0.0, 0.0, 1), 'all missed: 0')
    none = metrics(db, [], [(1, 3, [0, 0, 50, 50], .5)])[3, 'all']
    tap.same((none['map'], none['f1'], none['truths']), (None, None, 0), 'detections of a class without objects: NULL')
    flat = metrics(db, [(1, 0, [5, 5, 5, 9], None, False)], [(1, 0, [5, 5, 5, 9], .5)])[0, 'all']
    tap.same(flat['map'], 0.0, 'a box without area is found by nobody')
    for what, args, state in (('a box short', [[1], [0], [0, 0, 1], None, None, [], [], [], []], '2202E'), ('NULL for a class', [[1], [None], [0, 0, 1, 1], None, None, [], [], [], []], '22004'),
                              ('NaN for a confidence', empty[:5] + [[1], [0], [float('nan')], [0, 0, 1, 1]], '22023'), ('no boxes at all', [[1], [0], None, None, None, [], [], [], []], '22004')):
        try:
            db.execute(f'SELECT * FROM millrace.detection_metrics({CALL})', args)
            tap.ok(False, what + ' is refused')
        except psycopg.Error as e:
            tap.same(e.sqlstate, state, f'{what} is refused: {e.diag.message_primary}')


def main():
    folder = os.path.join(os.environ.get('MILLRACE_TMP', 'tmp/test_detection_metrics'), 'pg')
    with Cluster(find_pg_config(), folder) as c, psycopg.connect(c.dsn(), autocommit=True) as db:
        db.execute('CREATE EXTENSION millrace')
        compare(db, 'misses and wrong classes', missed=0.3)
        compare(db, 'crowds', crowds=0.15, areas=True)
        compare(db, 'duplicates and equal confidences', doubled=0.4, ties=True, whole=True)
        compare(db, 'many of one image, one class', images=4, classes=1, doubled=0.9, noise=150)
        matches(db)
        edges(db)
    tap.done()


main()
