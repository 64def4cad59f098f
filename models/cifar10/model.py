"""The compact CIFAR-10 backbone: ten 3x3 convolutions, three stages, one residual block in each."""
import torch.nn as nn
import torch.nn.functional as F

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def conv_bn(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv_bn(c, c), conv_bn(c, c)

    def forward(self, x):
        return F.relu(x + self.b(F.relu(self.a(x))))


class Stage(nn.Module):
    """Convolution that changes the width, 2x2 maximum, ReLU (it commutes with the maximum), residual block."""
    def __init__(self, i, o):
        super().__init__()
        self.c, self.r = conv_bn(i, o), Residual(o)

    def forward(self, x):
        return self.r(F.relu(F.max_pool2d(self.c(x), 2)))


class Backbone(nn.Module):
    def __init__(self, widths=(32, 64, 112, 144)):
        super().__init__()
        self.widths = tuple(widths)
        self.stem = conv_bn(3, widths[0])
        self.stages = nn.Sequential(*[Stage(i, o) for i, o in zip(widths, widths[1:])])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], 10)

    def forward(self, x):
        features = self.pool(self.stages(F.relu(self.stem(x)))).flatten(1)
        return features, self.fc(features)
