"""A clean data set for detection, and defects planted into it: plant(seed) -> Garden.

CIFAR images are the objects, pasted at known places on canvases with a gentle pattern.  Every defect is put into images of its own,
so that what audit() should find is known: Garden.planted[kind] is a set of image names; of annotations, (image name, number of the
label).  Where one defect brings another about (a tiny image is of an odd size, too) that is in Garden.allowed.
"""
import io
import random
import tarfile

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from .tap import data

WIDTH, HEIGHT = 320, 240
CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']


def cifar(count, part='train'):
    """(class, JPEG bytes) of the first `count` images, classes mixed; None where the data are absent."""
    archive = data('cifar10_jpeg.tar.gz')
    if not archive:
        return None
    found = []
    with tarfile.open(archive) as t:
        for m in t:
            p = m.name.split('/')
            if m.isfile() and p[-3] == part and int(p[-1][:4]) < count // len(CLASSES) + 1:
                found.append((p[-1], p[-2], t.extractfile(m).read()))
    return [(c, b) for _, c, b in sorted(found)[:count]]


def encoded(image, form='JPEG', **options):
    out = io.BytesIO()
    image.save(out, form, **({'quality': 92} if form == 'JPEG' else {}), **options)
    return out.getvalue()


class Picture:
    """name, split, content (None: the file is missing), labels [class, x1, y1, x2, y2]."""

    def __init__(self, name, split, content, labels):
        self.name, self.split, self.content, self.labels = name, split, content, labels


class Garden:
    def __init__(self, objects, clean=600, each=20, seed=1):
        self.random = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self.objects = [(CLASSES.index(c), Image.open(io.BytesIO(b)).convert('RGB')) for c, b in objects]
        self.objects = [o for o in self.objects if np.ptp(np.asarray(o[1]).astype(int).std(2)) > 10]      # in colour
        self.pictures, self.planted, self.allowed, self.each = [], {}, {}, each
        for i in range(clean):
            self.add('clean%04d.jpg' % i, *self.scene())
        self.images()
        self.files()
        self.labels()

    def add(self, name, image, labels, **options):
        self.add_file(name, encoded(image, **options), labels)

    def add_file(self, name, content, labels):
        self.pictures.append(Picture(name, 'train' if self.random.random() < .75 else 'val', content, labels))

    def mark(self, kind, *what):
        self.planted.setdefault(kind, set()).update(what)

    def allow(self, kind, *what):
        self.allowed.setdefault(kind, set()).update(what)

    def scene(self, width=WIDTH, height=HEIGHT, objects=None, size=None):
        """A canvas with objects that do not touch each other."""
        low = self.noise.integers(60, 200, (6, 8, 3), dtype=np.uint8)
        canvas = Image.fromarray(low).resize((width, height), Image.BICUBIC)
        canvas = Image.fromarray(np.clip(np.asarray(canvas).astype(int) + self.noise.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8))
        labels = []
        for _ in range(objects or self.random.randint(2, 4)):
            side = size or self.random.randint(36, 72)
            for _ in range(50):
                x, y = self.random.randint(0, width - side), self.random.randint(0, height - side)
                if all(x >= l[3] + 2 or x + side + 2 <= l[1] or y >= l[4] + 2 or y + side + 2 <= l[2] for l in labels):
                    break
            else:
                continue
            c, o = self.random.choice(self.objects)
            canvas.paste(o.resize((side, side), Image.BICUBIC), (x, y))
            labels.append([c, x, y, x + side, y + side])
        return canvas, labels

    def of(self, kind, make):
        """`each` images of a kind: make(image, labels) gives image, labels and options of encoding."""
        for i in range(self.each):
            name = '%s%02d.jpg' % (kind, i)
            image, labels, *options = make(*self.scene())
            self.add(name, image, labels, **(options[0] if options else {}))
            self.mark(kind, name)

    def images(self):
        def pixels(f):
            return lambda image, labels: (Image.fromarray(np.clip(f(np.asarray(image).astype(float)), 0, 255).astype(np.uint8)), labels)
        self.of('dark', pixels(lambda a: a * .25))
        self.of('bright', pixels(lambda a: 248 + a * .02))
        self.of('low_contrast', pixels(lambda a: 120 + a * .05))
        self.of('blurred', lambda image, labels: (image.filter(ImageFilter.GaussianBlur(6)), labels))
        self.of('low_information', lambda image, labels: (Image.new('RGB', image.size, (200, 120, 40)), labels))
        self.of('grey', lambda image, labels: (image.convert('L'), labels))
        self.of('exif_rotated', lambda image, labels: (image.transpose(Image.ROTATE_90), labels, {'exif': self.turned()}))
        self.of('black_corners', lambda image, labels: (image.rotate(self.random.choice([-1, 1]) * self.random.randint(8, 20), Image.BILINEAR), labels))
        self.of('repeated_tiles', self.tiled)
        self.of('odd_size', lambda image, labels: (image.resize((72, 54)), [[l[0], *(v * 72 / WIDTH for v in l[1:])] for l in labels]))
        self.of('tiny_image', lambda image, labels: (image.resize((12, 9)), [[l[0], *(v * 12 / WIDTH for v in l[1:])] for l in labels]))
        self.of('odd_aspect', lambda image, labels: self.scene(640, 120, 2))
        self.misplaced()
        self.allow('odd_size', *self.planted['tiny_image'])
        # rotated, tiled or drawn anew: their boxes are not where the objects are either
        self.allow('misplaced_boxes', *self.planted['black_corners'], *self.planted['repeated_tiles'])
        # a flat image has no contrast either; a tiny one next to no pixels
        for kind in ('dark', 'bright', 'low_information', 'low_contrast', 'blurred', 'tiny_image'):
            for other in ('low_information', 'low_contrast', 'blurred', 'repeated_tiles', 'black_corners'):
                self.allow(other, *self.planted[kind])
        self.tiny_boxes = {n for k in ('tiny_image', 'odd_size') for n in self.planted[k]}

    def misplaced(self):
        """Images that were augmented without their boxes."""
        def shifted(image, labels):
            dx, dy = self.random.choice([-1, 1]) * self.random.randint(20, 40), self.random.choice([-1, 1]) * self.random.randint(0, 30)
            return ImageChops.offset(image, dx, dy), labels
        moves = [lambda i, l: (i.transpose(Image.FLIP_LEFT_RIGHT), l), lambda i, l: (i.transpose(Image.FLIP_TOP_BOTTOM), l),
                 lambda i, l: (i.transpose(Image.ROTATE_180), l), shifted]
        self.of('misplaced_boxes', lambda image, labels: self.random.choice(moves)(image, labels))

    @staticmethod
    def turned():
        exif = Image.Exif()
        exif[0x0112] = 6
        return exif

    def tiled(self, image, labels):
        tile = image.crop((0, 0, WIDTH // 4, HEIGHT // 4))
        for x in range(4):
            for y in range(4):
                image.paste(tile, (x * WIDTH // 4, y * HEIGHT // 4))
        return image, labels

    def files(self):
        for i in range(self.each):
            image, labels = self.scene()
            jpeg = encoded(image)
            for kind, content in (
                    ('missing_image', None), ('truncated_image', jpeg[:self.random.randint(1200, len(jpeg) * 3 // 4)]),
                    ('corrupt_image', self.spoiled(jpeg, i)), ('unsupported_image', encoded(image, 'GIF' if i % 2 else 'BMP')),
                    ('wrong_extension', encoded(image, 'PNG'))):
                self.add_file('%s%02d.jpg' % (kind, i), content, labels)
                self.mark(kind, '%s%02d.jpg' % (kind, i))
            self.add('background_image%02d.jpg' % i, self.scene()[0], [])
            self.mark('background_image', 'background_image%02d.jpg' % i)

    def spoiled(self, jpeg, i):
        """Three ways: noise, a header whose tables are wrong, and nothing."""
        return [bytes(self.random.randrange(256) for _ in range(2000)), jpeg[:2] + b'\xff\xc4\x00\x15\x00' + b'\xff' * 16 + jpeg[20:], b''][i % 3]

    def labels(self):
        def label(kind, change):
            for i in range(self.each):
                name = '%s%02d.jpg' % (kind, i)
                image, labels = self.scene(objects=3)
                n = change(labels)
                self.add(name, image, labels)
                self.mark(kind, (name, n))
        r = self.random

        def moved(labels, f, c=None):
            labels.append([labels[0][0] if c is None else c, *f(*labels[0][1:])])
            return len(labels) - 1

        def changed(labels, f):
            labels[0][1:] = f(*labels[0][1:])
            return 0

        def renamed(labels):
            labels[0][0] = r.choice([10, 99])
            return 0
        label('unknown_class', renamed)
        label('degenerate_box', lambda l: changed(l, r.choice([
            lambda x1, y1, x2, y2: (x1, y1, x1, y2), lambda x1, y1, x2, y2: (x2, y1, x1, y2), lambda x1, y1, x2, y2: (x1, float('nan'), x2, y2),
            lambda x1, y1, x2, y2: (x1, y1, float('inf'), y2)])))
        label('box_out_of_range', lambda l: changed(l, r.choice([
            lambda x1, y1, x2, y2: (x1 - WIDTH, y1, x1 + 5, y2), lambda x1, y1, x2, y2: (x1, y1, x2, HEIGHT + 1.5), lambda x1, y1, x2, y2: (-3, -3, x2, y2)])))
        label('tiny_box', lambda l: changed(l, r.choice([lambda x1, y1, x2, y2: (x1, y1, x1 + 2, y2), lambda x1, y1, x2, y2: (x1, y1, x1 + 1, y1 + 1)])))
        label('huge_box', lambda l: changed(l, lambda *b: (0, 0, WIDTH, HEIGHT - 2)))
        label('duplicate_box', lambda l: moved(l, r.choice([lambda *b: b, lambda x1, y1, x2, y2: (x1 + .5, y1, x2, y2 + .5)])))
        label('overlapping_boxes', lambda l: moved(l, lambda x1, y1, x2, y2: (x1 + (x2 - x1) * .1, y1, x2 + (x2 - x1) * .02, y2)))
        label('conflicting_boxes', lambda l: moved(l, lambda *b: b, (l[0][0] + 1) % 10))
        self.allow('misplaced_boxes', *{n for k in ('box_out_of_range', 'huge_box') for n in self.planted[k]})
        # what is drawn anew may lie over its neighbours
        self.allow('overlapping_boxes', *{n for k in ('box_out_of_range', 'huge_box') for n in self.planted[k]})


def store(cursor, schema, dataset, garden):
    """Into the tables of a pipeline; returns {image name: id}, {annotation id: (image name, number)}."""
    cursor.execute('SELECT %s.create_dataset(%%s, class_names => %%s)' % schema, (dataset, CLASSES))
    ids, labels = {}, {}
    for p in garden.pictures:
        cursor.execute('INSERT INTO %s.images (dataset, split, path, content) VALUES (%%s, %%s, %%s, %%s) RETURNING image_id' % schema,
                       (dataset, p.split, p.name, p.content))
        ids[p.name] = cursor.fetchone()[0]
        for n, l in enumerate(p.labels):
            cursor.execute('INSERT INTO %s.annotations (image_id, class_id, x1, y1, x2, y2) VALUES (%%s, %%s, %%s, %%s, %%s, %%s) RETURNING annotation_id' % schema,
                           (ids[p.name], *l))
            labels[cursor.fetchone()[0]] = (p.name, n)
    return ids, labels
