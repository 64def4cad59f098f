"""The usual Python services, as the other side of the comparison.

    services.py fit   --net resnet20_cifar10.onnx --images folder --out models.pkl
    services.py a     --brokers … --mode batch|single --net … --models models.pkl
    services.py b     --brokers … --mode batch|single --models models.pkl --dsn …

A: topic photos (JSON, base64 JPEG) -> Pillow, ONNX Runtime (one thread), PCA 20 -> topic features (JSON).
B: topic features -> random forest, SVM, logistic regression (scikit-learn) -> three rows an image, COMMIT.
batch: A up to 32 and B up to 64 messages a poll (20 ms), executemany.  single: one message a step, as tutorials do.
Each prints a line when it is ready to read.
"""
import argparse
import base64
import io
import json
import os
import pickle

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[name] = '1'

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def open_net(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def to_tensor(data):
    from PIL import Image
    image = Image.open(io.BytesIO(data)).convert('RGB')
    if image.size != (32, 32):
        image = image.resize((32, 32), Image.BILINEAR)
    return ((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def features(net, tensors):
    return net.run(['features'], {net.get_inputs()[0].name: np.stack(tensors)})[0]


def fit(args):
    """PCA 20 and the three classifiers on the first images of each class, once."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC
    net = open_net(args.net)
    x, y = [], []
    for label in sorted(os.listdir(args.images)):
        for name in sorted(os.listdir(os.path.join(args.images, label)))[:args.per_class]:
            with open(os.path.join(args.images, label, name), 'rb') as f:
                x.append(features(net, [to_tensor(f.read())])[0])
            y.append(label)
    pca = PCA(20, svd_solver='full').fit(np.array(x))
    z = pca.transform(np.array(x))
    models = {'pca': pca, 'balanced': RandomForestClassifier(100, random_state=0).fit(z, y),
              'accurate': SVC(random_state=0).fit(z, y), 'fast': LogisticRegression(max_iter=1000).fit(z, y)}
    with open(args.out, 'wb') as f:
        pickle.dump(models, f)


def consumer(args, topic):
    from confluent_kafka import Consumer
    c = Consumer({'bootstrap.servers': args.brokers, 'group.id': 'python-' + topic, 'auto.offset.reset': 'earliest',
                  'enable.auto.commit': False})
    c.subscribe([topic])
    print('ready', flush=True)
    return c


def poll(c, args, most):
    if args.mode == 'single':
        m = c.poll(0.5)
        return [m] if m is not None and not m.error() else []
    return [m for m in c.consume(most, 0.02) if not m.error()]


def service_a(args):
    from confluent_kafka import Producer
    net, models = open_net(args.net), pickle.load(open(args.models, 'rb'))
    producer = Producer({'bootstrap.servers': args.brokers, 'linger.ms': 0 if args.mode == 'single' else 5})
    c = consumer(args, args.photos)
    while True:
        messages = poll(c, args, 32)
        if not messages:
            continue
        bodies = [json.loads(m.value()) for m in messages]
        z = models['pca'].transform(features(net, [to_tensor(base64.b64decode(b['content'])) for b in bodies]))
        for m, b, row in zip(messages, bodies, z):
            producer.produce(args.features, json.dumps({'image_id': b['image_id'], 'descriptors': row.tolist(),
                                                        'descriptor_count': 20, 'sent': m.timestamp()[1]}))
        producer.flush() if args.mode == 'single' else producer.poll(0)
        c.commit(asynchronous=args.mode != 'single')


def service_b(args):
    import psycopg
    models = pickle.load(open(args.models, 'rb'))
    db = psycopg.connect(args.dsn)
    c = consumer(args, args.features)
    insert = ("INSERT INTO python_predictions (image_id, profile, label, confidence, sent) VALUES (%s, %s, %s, %s, to_timestamp(%s))")
    while True:
        messages = poll(c, args, 64)
        if not messages:
            continue
        bodies = [json.loads(m.value()) for m in messages]
        z = np.array([b['descriptors'] for b in bodies])
        rows = []
        for profile in ('fast', 'balanced', 'accurate'):
            model = models[profile]
            if hasattr(model, 'predict_proba'):
                p = model.predict_proba(z)
                labels, confidence = model.classes_[p.argmax(1)], p.max(1)
            else:
                labels, confidence = model.predict(z), [1.0] * len(bodies)
            rows += [(b['image_id'], profile, str(l), float(f), b['sent'] / 1000) for b, l, f in zip(bodies, labels, confidence)]
        with db.cursor() as cursor:
            cursor.executemany(insert, rows)
        db.commit()
        c.commit(asynchronous=args.mode != 'single')


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('what', choices=['fit', 'a', 'b'])
    parser.add_argument('--brokers')
    parser.add_argument('--photos', default='photos')
    parser.add_argument('--features', default='features')
    parser.add_argument('--mode', default='batch')
    parser.add_argument('--net')
    parser.add_argument('--images')
    parser.add_argument('--per-class', type=int, default=500)
    parser.add_argument('--models')
    parser.add_argument('--out')
    parser.add_argument('--dsn')
    a = parser.parse_args()
    {'fit': fit, 'a': service_a, 'b': service_b}[a.what](a)
