"""Each exact rewrite keeps its bound, and does happen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mfs_deploy.graph import (
    REWRITES,
    RUNTIME_REWRITES,
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
    simplify,
    tanh_to_sigmoid,
)
from mfs_deploy.graph.cost import Cost, cost
from mfs_deploy.graph.trace import (
    UnknownActivation,
    is_resize,
    norm_constants,
    trace,
)


def up(x):
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class Toy(nn.Module):
    """Holds layers a, b, c and runs ``body(self, x)``."""

    def __init__(self, body, **layers):
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.body(self, x)


def randomised_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_(0.5, 0.3)
    norm.running_var.uniform_(0.2, 2)
    return norm


CASES = {
    "fold_batchnorm": (
        fold_batchnorm,
        lambda: Toy(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 4, 3, padding=1), b=randomised_norm(4)),
        2e-6,
    ),
    "fold_batchnorm without bias": (
        fold_batchnorm,
        lambda: Toy(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 4, 3, padding=1, bias=False), b=randomised_norm(4)),
        2e-6,
    ),
    "fold_input_scale, power of two": (
        fold_input_scale,
        lambda: Toy(lambda m, x: m.a((x - 0.5) / 0.5), a=nn.Conv2d(3, 4, 4, stride=2, padding=1)),
        0.0,
    ),
    "fold_input_scale": (
        fold_input_scale,
        lambda: Toy(lambda m, x: m.a((x - 0.3) / 0.7), a=nn.Conv2d(3, 4, 4, stride=2, padding=1)),
        1e-6,
    ),
    "tanh_to_sigmoid": (
        tanh_to_sigmoid,
        lambda: Toy(lambda m, x: (1 + torch.tanh(m.a(x))) / 2, a=nn.Conv2d(3, 3, 3, padding=1)),
        2e-7,
    ),
    "pointwise_before_resize": (pointwise_before_resize, lambda: Toy(lambda m, x: m.a(up(x)), a=nn.Conv2d(3, 2, 1)), 1e-6),
    "share_resize": (share_resize, lambda: Toy(lambda m, x: m.a(up(x)) + m.b(up(x)), a=conv1(), b=conv1()), 0.0),
    "drop_zero_bias": (drop_zero_bias, lambda: zero_bias(Toy(lambda m, x: m.a(x), a=conv1())), 0.0),
}


def reflected(x):
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


CASES |= {
    "fold_batchnorm_forward, 1x1": (
        fold_batchnorm_forward,
        lambda: Toy(lambda m, x: m.a(m.b(x)), a=nn.Conv2d(3, 4, 1), b=norm3()),
        1e-6,
    ),
    "fold_batchnorm_forward through resize and reflection": (
        fold_batchnorm_forward,
        lambda: Toy(lambda m, x: m.a(reflected(up(m.b(x)))), a=nn.Conv2d(3, 4, 3, bias=False), b=norm3()),
        2e-6,
    ),
    "batchnorm_to_depthwise": (batchnorm_to_depthwise, lambda: Toy(lambda m, x: m.b(x) + x, b=norm3()), 1e-6),
    "batchnorm_to_depthwise before zero padding": (
        batchnorm_to_depthwise,
        lambda: Toy(lambda m, x: m.a(m.b(x)), a=conv1(), b=norm3()),
        2e-6,
    ),
}


def norm3() -> nn.BatchNorm2d:
    return randomised_norm(3)


def conv1() -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, padding=1)


def zero_bias(net: Toy) -> Toy:
    nn.init.zeros_(net.get_parameter("a.bias"))
    return net


def shared_mask() -> Toy:
    def body(m, x):
        mask = torch.sigmoid(m.b(x))
        return m.a(x) * mask + (1 - mask) * x

    return Toy(body, a=conv1(), b=conv1())


CASES["lerp_blend"] = (lerp_blend, shared_mask, 5e-7)


def two_tails() -> Toy:
    def tail(first, last, x):
        return torch.sigmoid(last(F.leaky_relu(first(x), negative_slope=0.2)))

    def body(m, x):
        return tail(m.a1, m.a2, x) * tail(m.b1, m.b2, x)

    layers = {"a1": nn.Conv2d(3, 3, 3, padding=1), "a2": conv1(), "b1": nn.Conv2d(3, 2, 1), "b2": nn.Conv2d(2, 1, 3, padding=1)}
    return Toy(body, **layers)


CASES |= {
    "merge_pointwise": (
        merge_pointwise,
        lambda: Toy(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 3, 3, padding=1, groups=3), b=nn.Conv2d(3, 2, 1)),
        1e-6,
    ),
    "merge_pointwise with strides and without biases": (
        merge_pointwise,
        lambda: Toy(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 3, 4, 2, 1, groups=3, bias=False), b=nn.Conv2d(3, 1, 1, bias=False)),
        1e-6,
    ),
    "merge_output_branches": (merge_output_branches, two_tails, 1e-6),
    "pad_even_kernels": (
        pad_even_kernels,
        lambda: Toy(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 8, 4, 2, 1, groups=8)),
        1e-6,
    ),
    "pad_input_channels": (
        pad_input_channels,
        lambda: Toy(lambda m, x: m.b(m.a(x - 0.5)), a=nn.Conv2d(3, 3, 4, 2, 1, groups=3), b=nn.Conv2d(3, 8, 1)),
        1e-6,
    ),
}


def test_every_rewrite_has_a_test():
    assert {*REWRITES, *RUNTIME_REWRITES} == {rewrite for rewrite, _, _ in CASES.values()}


def test_a_depthwise_convolution_is_not_merged_into_many_outputs_or_where_another_reads_it():
    def conv(outputs):
        return nn.Conv2d(3, outputs, 1)

    channelwise = nn.Conv2d(3, 3, 3, padding=1, groups=3)
    assert merge_pointwise.apply(trace(Toy(lambda m, x: m.b(m.a(x)), a=channelwise, b=conv(3)).eval())) == 0
    assert merge_pointwise.apply(trace(Toy(lambda m, x: (y := m.a(x)) + m.b(y), a=channelwise, b=conv(1)).eval())) == 0


@pytest.mark.parametrize("name", CASES)
def test_a_rewrite_happens_once_and_keeps_its_bound(name):
    rewrite, make, bound = CASES[name]
    torch.manual_seed(0)
    net, x = make().eval(), torch.rand(2, 3, 16, 16)
    graph = trace(net)
    assert rewrite.apply(graph) == 1
    graph.recompile()
    with torch.inference_mode():
        assert (graph(x) - net(x)).abs().max() <= bound
    assert rewrite.apply(graph) == 0


def test_tracing_leaves_the_network_as_it_was():
    net = CASES["fold_batchnorm"][1]().eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    simplify(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_batchnorm_is_not_folded_where_the_convolution_is_read_twice():
    net = Toy(lambda m, x: (lambda y: m.b(y) + y)(m.a(x)), a=conv1(), b=randomised_norm(3))
    assert fold_batchnorm.apply(trace(net)) == 0


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: m.a(m.b(x)),
        lambda m, x: m.a(up(m.b(x))),
        lambda m, x: m.c(F.pad(m.b(x), (1, 1, 1, 1))),
        lambda m, x: (lambda y: m.c(y) + y[..., 1:-1, 1:-1])(m.b(x)),
    ],
    ids=["zero padding", "zero padding after a resize", "a pad of zeros", "read twice"],
)
def test_batchnorm_is_not_pushed_where_it_would_change_the_border_or_another_reader(body):
    """One bias for all pixels is wrong at a border of zeros: there fewer taps see the shift."""
    norm = norm3()
    net = Toy(body, a=conv1(), b=norm, c=nn.Conv2d(3, 3, 3)).eval()
    graph, x = trace(net), torch.rand(1, 3, 16, 16)
    assert fold_batchnorm_forward.apply(graph) == 0
    wrong = nn.Conv2d(3, 3, 3, padding=1)
    scale, shift = norm_constants(norm)
    wrong.weight = nn.Parameter((net.a.weight.double() * scale[:, None, None]).float())
    wrong.bias = nn.Parameter((net.a.bias.double() + (net.a.weight.double() * shift[:, None, None]).sum((1, 2, 3))).float())
    with torch.inference_mode():
        difference = (wrong(x) - net.a(net.b(x))).abs()
        assert difference[..., 1:-1, 1:-1].max() < 1e-5
        assert difference[..., 0, :].max() > 0.01


def test_resizes_of_different_sizes_are_not_shared():
    net = Toy(lambda m, x: up(x) + F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
    assert share_resize.apply(trace(net)) == 0


def test_a_widening_convolution_stays_after_its_resize():
    assert pointwise_before_resize.apply(trace(Toy(lambda m, x: m.a(up(x)), a=nn.Conv2d(3, 4, 1)))) == 0


def test_an_unknown_activation_is_refused():
    with pytest.raises(UnknownActivation, match="Hardswish"):
        trace(Toy(lambda m, x: m.a(x), a=nn.Hardswish()))


@pytest.mark.parametrize("size", [224, 256])
def test_the_simplified_network_matches_and_costs_less(net, size):
    graph = simplify(net)
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        for a, b in zip(graph(x), net(x), strict=True):
            assert (a - b).abs().max() <= 5e-6
    before, after = cost(trace(net), size), cost(graph, size)
    assert after.parameters < before.parameters
    assert after.macs < before.macs


def test_costs_of_the_network_are_exact(net):
    assert cost(trace(net), 224) == Cost(parameters=499_825, bytes=2_001_316, macs=305_722_368)
    assert round(cost(trace(net), 256).macs / 1e9, 3) == 0.399
    assert sum(is_resize(n) for n in trace(net).graph.nodes) == 10
    assert sum(is_resize(n) for n in simplify(net).graph.nodes) == 9


def test_every_rewrite_applies_to_the_network(net):
    graph = trace(net)
    counts = {rewrite.__name__.rsplit(".", 1)[1]: rewrite.apply(graph) for rewrite in REWRITES}
    assert counts == {
        "fold_batchnorm": 7,
        "fold_batchnorm_forward": 0,
        "batchnorm_to_depthwise": 0,
        "fold_input_scale": 1,
        "tanh_to_sigmoid": 1,
        "lerp_blend": 1,
        "pointwise_before_resize": 1,
        "share_resize": 1,
        "drop_zero_bias": 18,
    }
