"""ONNX files of common networks with random weights, made with the packages their users export with.

    python t/lib/exports.py folder [name ...]     names: see MODELS; already existing files are kept
    python t/lib/exports.py --skeleton file.onnx file.onnx.gz

A skeleton is a graph without its large weights, which fill() makes again, random but the same each time: t/exports holds
some, so that `make check` sees what exporters write without having them.

Weights are random but tame (batch norms have real statistics of noise), so that outputs are neither 0 nor huge.
"""
import os
import sys
import warnings

# name: (family, exporter); 'ts': torch.onnx.export(dynamo=False), 'dynamo': dynamo=True
MODELS = {}


def model(*names):
    def register(builder):
        for name in names:
            MODELS[name] = builder
        return builder
    return register


def settle(net, *inputs):
    """Two training passes over noise, so that batch norms hold statistics of what they will see."""
    import torch
    for m in net.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.momentum = None
            torch.nn.init.uniform_(m.weight, .5, 1.)
            torch.nn.init.uniform_(m.bias, -.2, .2)
    net.train()
    with torch.no_grad():
        for _ in range(2):
            net(*inputs)
    return net.eval()


def export(net, inputs, path, dynamo=False, opset=17, names=None, outputs=None, dynamic=None):
    import torch
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter('ignore')
        options = dict(input_names=names or ['input'], output_names=outputs or ['output'])
        if dynamo:
            torch.onnx.export(net, inputs, path + '.tmp', dynamo=True, external_data=False, verbose=False,
                              opset_version=max(opset, 18), dynamic_shapes=dynamic, **options)
        else:
            torch.onnx.export(net, inputs, path + '.tmp', dynamo=False, opset_version=opset, dynamic_axes=dynamic, **options)
    os.replace(path + '.tmp', path)


@model('resnet50', 'resnet50_dynamo', 'mobilenetv2', 'mobilenetv3', 'efficientnet_b0', 'efficientnet_b0_dynamo', 'convnext_tiny',
       'convnext_tiny_dynamo', 'vit_b', 'squeezenet', 'shufflenet', 'densenet', 'googlenet', 'regnet')
def torchvision_net(name, path):
    import torch
    import torchvision.models as tv
    torch.manual_seed(1)
    plain, _, dynamo = name.partition('_dynamo')
    dynamo = name.endswith('_dynamo')
    build = {'resnet50': tv.resnet50, 'mobilenetv2': tv.mobilenet_v2, 'mobilenetv3': tv.mobilenet_v3_small,
             'efficientnet_b0': tv.efficientnet_b0, 'convnext_tiny': tv.convnext_tiny, 'vit_b': tv.vit_b_16,
             'squeezenet': tv.squeezenet1_1, 'shufflenet': tv.shufflenet_v2_x1_0, 'densenet': tv.densenet121,
             'googlenet': lambda: tv.googlenet(init_weights=False, aux_logits=False), 'regnet': tv.regnet_y_400mf}[plain]
    net = settle(build(), torch.randn(4, 3, 224, 224))
    export(net, (torch.randn(1, 3, 224, 224),), path, dynamo)


@model('vit_tiny', 'vit_tiny_dynamo')
def timm_net(name, path):
    import timm
    import torch
    torch.manual_seed(1)
    net = timm.create_model('vit_tiny_patch16_224', pretrained=False).eval()
    export(net, (torch.randn(1, 3, 224, 224),), path, name.endswith('_dynamo'))


@model('yolov5n', 'yolov8n', 'yolov11n')
def yolo_net(name, path):
    import torch
    from ultralytics.nn.tasks import DetectionModel
    torch.manual_seed(1)
    config = {'yolov5n': 'yolov5n.yaml', 'yolov8n': 'yolov8n.yaml', 'yolov11n': 'yolo11n.yaml'}[name]
    net = settle(DetectionModel(config, verbose=False), torch.rand(2, 3, 320, 320))
    head = net.model[-1]
    head.export, head.format, net.model[-1].dynamic = True, 'onnx', False
    export(net, (torch.rand(1, 3, 640, 640),), path, names=['images'], outputs=['output0'])


@model(*(n + e for n in ('minilm', 'distilbert', 'mpnet', 'bert') for e in ('', '_dynamo')))
def text_net(name, path):
    """Batch and length open (torch.export: fixed, 1 x 16)."""
    import torch
    import transformers as tf
    torch.manual_seed(1)
    plain, _, dynamo = name.partition('_')
    small = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    net = {'minilm': lambda: tf.BertModel(tf.BertConfig(**small), add_pooling_layer=False),
           'bert': lambda: tf.BertModel(tf.BertConfig(), add_pooling_layer=False),
           'distilbert': lambda: tf.DistilBertModel(tf.DistilBertConfig()),
           'mpnet': lambda: tf.MPNetModel(tf.MPNetConfig(), add_pooling_layer=False)}[plain]().eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, input_ids, attention_mask):
            return self.net(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    names = ['input_ids', 'attention_mask']
    given = (torch.randint(5, 1000, (1 if dynamo else 2, 16)), torch.ones((1 if dynamo else 2, 16), dtype=torch.int64))
    given[1][-1, -4:] = 0
    export(Encoder().eval(), given, path, bool(dynamo), names=names,
           dynamic=None if dynamo else {n: {0: 'batch', 1: 'sequence'} for n in names + ['output']})


@model('minilm_ids')
def token_net(name, path):
    """One input, so that infer() takes it: 16 tokens, batch open."""
    import torch
    from transformers import BertConfig, BertModel
    torch.manual_seed(1)
    bert = BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
                     add_pooling_layer=False).eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = bert

        def forward(self, ids):
            return self.bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    export(Encoder().eval(), (torch.ones(2, 16, dtype=torch.int64),), path, names=['input_ids'], dynamic={'input_ids': {0: 'batch'}})


@model('tf_resnet50', 'tf_mobilenetv2', 'tf_efficientnet_b0')
def keras_net(name, path):
    """tf2onnx wants an older numpy and protobuf: test_nn_exports.py runs this in an environment of its own."""
    import tensorflow as tf
    import tf2onnx
    tf.keras.utils.set_random_seed(1)
    build = {'tf_resnet50': tf.keras.applications.ResNet50, 'tf_mobilenetv2': tf.keras.applications.MobileNetV2,
             'tf_efficientnet_b0': tf.keras.applications.EfficientNetB0}[name]
    net = build(weights=None)
    for layer in net.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.
    net(tf.random.normal((4, 224, 224, 3), 100, 50), training=True)
    tf2onnx.convert.from_keras(net, [tf.TensorSpec((None, 224, 224, 3), tf.float32, name='input')], opset=17, output_path=path)


@model('optimum_minilm', 'optimum_distilbert', 'optimum_mpnet', 'optimum_vit')
def optimum_net(name, path):
    """Also in an environment of its own."""
    import shutil
    import tempfile
    import torch
    import transformers as tf
    from optimum.exporters.onnx import onnx_export_from_model
    torch.manual_seed(1)
    small = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    net = {'minilm': lambda: tf.BertModel(tf.BertConfig(**small)), 'distilbert': lambda: tf.DistilBertModel(tf.DistilBertConfig(n_layers=3)),
           'mpnet': lambda: tf.MPNetModel(tf.MPNetConfig(num_hidden_layers=3)),
           'vit': lambda: tf.ViTModel(tf.ViTConfig(hidden_size=192, num_hidden_layers=6, num_attention_heads=3, intermediate_size=768))
           }[name[len('optimum_'):]]().eval()
    with tempfile.TemporaryDirectory() as folder:
        onnx_export_from_model(net, folder, opset=17, task='feature-extraction', do_validation=False)
        shutil.move(os.path.join(folder, 'model.onnx'), path)


KEEP = 256                      # elements: smaller tensors are constants of the graph, not weights


def skeleton(path, to):
    """Large weights become their statistics, in doc_string."""
    import gzip
    import numpy as np
    import onnx
    from onnx import numpy_helper
    m = onnx.load(path)
    for t in tensors_of(m):
        a = numpy_helper.to_array(t)
        if a.size > KEEP and a.dtype in (np.float32, np.float16) and np.isfinite(a).all():
            t.doc_string = 'fill %.6g %.6g %d' % (a.mean(), a.std(), a.min() >= 0)
            t.ClearField('raw_data')
            t.ClearField('float_data')
    m.doc_string = ''
    for n in m.graph.node:
        n.doc_string = ''
        n.ClearField('metadata_props')
    m.ClearField('metadata_props')
    m.graph.ClearField('value_info')
    with open(to, 'wb') as f, gzip.GzipFile(fileobj=f, mode='wb', mtime=0, filename='') as z:
        z.write(m.SerializeToString())


def tensors_of(m):
    """Initializers and the tensors of Constant nodes."""
    for t in m.graph.initializer:
        yield t
    for n in m.graph.node:
        for a in n.attribute:
            if a.HasField('t'):
                yield a.t


def fill(path, to):
    """A skeleton's graph with random weights: vectors of the original ones' mean and deviation, matrices and kernels scaled by
    their inputs, so that activations neither grow nor vanish (else rounding differences would be all one compares)."""
    import gzip
    import numpy as np
    import onnx
    m = onnx.ModelProto()
    with gzip.open(path) as f:
        m.ParseFromString(f.read())
    r = np.random.default_rng(0)
    for t in tensors_of(m):
        if t.doc_string.startswith('fill '):
            mean, deviation, positive = map(float, t.doc_string.split()[1:])
            if len(t.dims) > 1:
                mean, deviation, positive = 0, np.prod(t.dims[1:]) ** -.5, 0
            a = r.normal(mean, deviation, tuple(t.dims))
            a = (np.abs(a) if positive else a).astype(np.float32 if t.data_type == 1 else np.float16)
            t.raw_data = a.tobytes()
            t.doc_string = ''
    onnx.save(m, to)


def main(folder, wanted):
    os.makedirs(folder, exist_ok=True)
    for name in wanted or MODELS:
        path = os.path.join(folder, name + '.onnx')
        if not os.path.exists(path):
            MODELS[name](name, path)
        print('%-24s %6.1f MB' % (name, os.path.getsize(path) / 1e6), flush=True)


if __name__ == '__main__':
    if sys.argv[1] == '--skeleton':
        skeleton(*sys.argv[2:4])
    else:
        main(sys.argv[1], sys.argv[2:])
