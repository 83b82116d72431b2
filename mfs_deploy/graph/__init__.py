"""Exact rewrites: the same function, cheaper to run.  Each file is one rewrite and states the bound it keeps.

A rewrite is a function ``apply(graph) -> int`` that changes a canonical graph (``trace.py``) in place and says how often it did.
"""

from __future__ import annotations

from torch import fx, nn

from mfs_deploy.graph import (
    batchnorm_to_depthwise,
    drop_zero_bias,
    fold_batchnorm,
    fold_batchnorm_forward,
    fold_input_scale,
    lerp_blend,
    merge_output_branches,
    merge_pointwise,
    pad_even_kernels,
    pad_input_channels,
    pointwise_before_resize,
    share_resize,
    tanh_to_sigmoid,
)
from mfs_deploy.graph.trace import tidy, trace

# In order: BatchNorms go first, since they stand between 1x1 convolutions and resizes, and add biases.
REWRITES = (
    fold_batchnorm,
    fold_batchnorm_forward,
    batchnorm_to_depthwise,
    fold_input_scale,
    tanh_to_sigmoid,
    lerp_blend,
    pointwise_before_resize,
    share_resize,
    drop_zero_bias,
)

# Exact as well, but faster in some runtimes only; each backend applies those that its own runtime gains from.
RUNTIME_REWRITES = (pad_input_channels, pad_even_kernels, merge_output_branches, merge_pointwise)


def simplify(net: nn.Module) -> fx.GraphModule:
    """Trace a network and apply every rewrite.  The result computes what ``net`` does in eval mode, within 1e-6."""
    graph = trace(net)
    for rewrite in REWRITES:
        rewrite.apply(graph)
    return tidy(graph)
