"""What every test file shares: the device and data type under test, and small seeded problems."""

import os

import torch

DEVICE = torch.device(os.environ.get("AUXILEARN_TEST_DEVICE", "cpu"))
DTYPE = getattr(torch, os.environ.get("AUXILEARN_TEST_DTYPE", "float64"))
