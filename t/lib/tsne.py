"""What maps of t-SNE are judged by, for tests and benchmarks: points, scikit-learn's affinities, the exact divergence."""
import io
import tarfile

import numpy as np
from sklearn.manifold._t_sne import _joint_probabilities_nn
from sklearn.neighbors import NearestNeighbors

from lib.tap import data

IMAGES, MODEL = data('cifar10_jpeg.tar.gz'), data('models/resnet20_cifar10.onnx')


def affinities(x, perplexity):
    nearest = NearestNeighbors(n_neighbors=min(len(x) - 1, int(3 * perplexity + 1))).fit(x)
    d = nearest.kneighbors_graph(mode='distance')
    d.data **= 2
    return _joint_probabilities_nn(d, perplexity, 0)


def divergence(p, y):
    """Exact, in doubles."""
    y = np.asarray(y, np.float64)
    square = (y * y).sum(1)
    z = -float(len(y))
    for i in range(0, len(y), 500):
        d = np.maximum(square[i:i + 500, None] + square[None] - 2 * y[i:i + 500] @ y.T, 0)
        z += (1 / (1 + d)).sum()
    c = p.tocoo()
    keep = c.data > 0
    a, b, v = c.row[keep], c.col[keep], c.data[keep] / c.data.sum()
    return float((v * np.log(v * (1 + ((y[a] - y[b]) ** 2).sum(1)) * z)).sum())


def features(n):
    """ResNet-20's of CIFAR training images, by ONNX Runtime."""
    import onnxruntime
    from PIL import Image
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options)
    pixels = []
    with tarfile.open(IMAGES) as tar:
        for k, m in enumerate(m for m in tar if m.isfile() and '/train/' in m.name and m.name.endswith('.jpg')):
            if k % (50000 // n) == 0 and len(pixels) < n:
                pixels.append(np.asarray(Image.open(io.BytesIO(tar.extractfile(m).read())).convert('RGB')))
    x = np.stack(pixels).astype(np.float32) / 255
    x = ((x - [.485, .456, .406]) / [.229, .224, .225]).astype(np.float32).transpose(0, 3, 1, 2)
    return np.concatenate([session.run(['features'], {session.get_inputs()[0].name: np.ascontiguousarray(x[i:i + 250])})[0]
                           for i in range(0, len(x), 250)])
