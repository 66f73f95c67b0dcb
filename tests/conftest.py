"""One thread for each test process: several run side by side, and results must not depend on the number of cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; processes that tests start inherit it

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
