"""One thread: on tensors as small as those of the tests, several only wait for each other."""

import torch

torch.set_num_threads(1)
