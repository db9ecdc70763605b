"""A small net in torch, of which examples/keras_small_cnn.py is a port to Keras.

alexnet-bench verify --net torch=examples/small_cnn.py:SmallCnn --net tensorflow=examples/keras_small_cnn.py:build
"""

import torch
import torch.nn.functional as F
from torch import nn


class SmallCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, stride=4, padding=3)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 14 * 14, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):  # (n, 3, 224, 224)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)  # from (n, 16, 14, 14)
        return self.fc2(F.relu(self.fc1(x)))
