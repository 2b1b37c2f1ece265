"""Which of torch's attention kernels run on a GPU."""

from __future__ import annotations

import torch


def attend_without_cudnn(device: torch.device) -> None:
    """On a GPU: leaves attention to the other kernels, for this process.

    cuDNN, which torch prefers on Hopper, plans anew for every shape, some 30 ms each, and keeps all plans: while decoding the
    context is one token longer at every step (huggingface/transformers#48163).
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
