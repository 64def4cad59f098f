"""ONNX files of common networks with random weights, made with the packages their users export with.

    python t/lib/exports.py folder [name ...]     names: see MODELS; already existing files are kept

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


def main(folder, wanted):
    os.makedirs(folder, exist_ok=True)
    for name in wanted or MODELS:
        path = os.path.join(folder, name + '.onnx')
        if not os.path.exists(path):
            MODELS[name](name, path)
        print('%-24s %6.1f MB' % (name, os.path.getsize(path) / 1e6), flush=True)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2:])
