"""Weights that do not fit must say which, and weights that do must arrive unchanged."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mfs_deploy import architectures
from mfs_deploy.architectures.card import ENCODER, GENERATOR
from mfs_deploy.architectures.mobilefaceswap.small_encoder import SmallEncoder
from mfs_deploy.checkpoint.load import load_encoder
from mfs_deploy.checkpoint.match import match_state_dict, parameters_of
from mfs_deploy.checkpoint.stored_array import StoredArray
from mfs_deploy.errors import CheckpointError

ARCH = "mobilefaceswap"


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for key, tensor in a.items():
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
        assert torch.equal(tensor, b[key]), key


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_gives_the_same_tensors(read_pickle, tiny, tiny_state, protocol: int) -> None:
    names = {key: f"param_{i}" for i, key in enumerate(tiny)}
    assert_same(read_pickle(pickle.dumps({**tiny, "StructuredToParameterName@@": names}, protocol=protocol)), tiny_state)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_files_written_before_and_since_numpy_2_are_read(read_pickle, tiny, tiny_state, protocol: int, module: str) -> None:
    data = pickle.dumps(tiny, protocol=protocol)
    if protocol == 4:  # the name's length is in the opcode before it, and the frame's before that: drop the frame
        data = data[:2] + data[11:]
        data = data.replace(b"\x8c\x16numpy._core.multiarray", bytes([0x8C, len(module)]) + module.encode())
    else:
        data = data.replace(b"cnumpy._core.multiarray", b"c" + module.encode())
    assert module.encode() in data
    assert_same(read_pickle(data), tiny_state)


def test_values_with_their_parameter_name_are_read(read_pickle, tiny, tiny_state) -> None:
    assert_same(read_pickle({key: (f"p{key}", array) for key, array in tiny.items()}), tiny_state)


class PaddleTensor:
    """Pickles as Paddle's tensors do: ``tuple((name, array),)``."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self):
        return tuple, (("generated_tensor_0", self.array),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_saved_outside_a_state_dict_are_read(read_pickle, tiny, tiny_state, protocol: int) -> None:
    data = pickle.dumps({key: PaddleTensor(array) for key, array in tiny.items()}, protocol=protocol)
    assert_same(read_pickle(data), tiny_state)


@pytest.mark.parametrize("protocol", [4, 5])
def test_fortran_order_and_big_endian_keep_their_values(read_pickle, tiny, tiny_state, protocol: int) -> None:
    tiny["4.weight"] = np.asfortranarray(tiny["4.weight"])
    tiny["0.weight"] = np.asfortranarray(tiny["0.weight"]).astype(">f4")
    assert_same(read_pickle(pickle.dumps(tiny, protocol=protocol)), tiny_state)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(read_pickle, tiny, tiny_state, dtype) -> None:
    loaded = read_pickle({key: array.astype(dtype) for key, array in tiny.items()})
    expected = {key: torch.tensor(t.numpy().astype(dtype).astype(np.float32)) for key, t in tiny_state.items()}
    assert_same(loaded, expected)


def test_paddles_uint16_is_bfloat16(read_pickle, tiny, tiny_state) -> None:
    bits = {key: (array.view(np.uint32) >> 16).astype(np.uint16) for key, array in tiny.items()}
    loaded = read_pickle(bits)
    for key, tensor in tiny_state.items():
        upper = (tensor.numpy().view(np.uint32) >> 16).astype(np.int32).astype(np.int16)
        assert torch.equal(loaded[key].bfloat16(), torch.from_numpy(upper).view(torch.bfloat16)), key


@pytest.mark.parametrize(
    ("dtype", "named"), [("i8", "int64"), ("i4", "int32"), ("u1", "uint8"), ("b1", "bool"), ("c8", "complex64")]
)
def test_other_types_are_refused_by_key_and_name(read_pickle, tiny, dtype: str, named: str) -> None:
    tiny["3.bias"] = tiny["3.bias"].astype(dtype)
    with pytest.raises(CheckpointError, match=rf"3\.bias is of type {named}") as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-values"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_key(read_pickle, tiny, value: float) -> None:
    tiny["4.weight"][2, 3] = value
    with pytest.raises(CheckpointError, match=r"4\.weight holds NaN or infinite") as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-values"


def test_a_float64_too_large_for_float32_is_refused(read_pickle, tiny) -> None:
    tiny["3.bias"] = tiny["3.bias"].astype(np.float64) * 1e300
    with pytest.raises(CheckpointError, match=r"3\.bias holds NaN or infinite"):
        read_pickle(tiny)


def test_a_negative_variance_is_refused(read_pickle, tiny) -> None:
    tiny["1._variance"][1] = -1
    with pytest.raises(CheckpointError, match=r"1\._variance holds a negative variance"):
        read_pickle(tiny)


def test_a_transposed_linear_is_named_and_called_so(read_pickle, tiny) -> None:
    tiny["4.weight"] = tiny["4.weight"].T.copy()
    with pytest.raises(CheckpointError, match=r"4\.weight has shape \(6, 4\), expected \(4, 6\): it looks transposed") as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-shape"


def test_a_wrong_shape_is_named_with_the_expected_one(read_pickle, tiny) -> None:
    tiny["0.weight"] = tiny["0.weight"][:, :2]
    with pytest.raises(CheckpointError, match=r"0\.weight has shape \(4, 2, 3, 3\), expected \(4, 3, 3, 3\)") as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-shape"
    assert "transposed" not in caught.value.message


def test_missing_and_unexpected_keys_are_told_together(read_pickle, tiny) -> None:
    del tiny["3.bias"], tiny["2._weight"]
    tiny["optimizer"] = tiny["0.bias"]
    with pytest.raises(CheckpointError) as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-keys"
    assert "2 missing (2._weight, 3.bias), 1 unexpected (optimizer)" in caught.value.message


def test_many_missing_keys_are_counted_not_listed(read_pickle, tiny) -> None:
    with pytest.raises(CheckpointError, match=r"10 missing \(0\.weight, 0\.bias, 1\.weight, …\)"):
        read_pickle({key: tiny[key] for key in list(tiny)[-1:]})


def test_names_of_both_frameworks_at_once_are_refused(read_pickle, tiny) -> None:
    tiny["1.running_var"] = tiny["1._variance"]
    with pytest.raises(CheckpointError, match="both Paddle") as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-keys"


def test_dataparallels_prefix_is_stripped_only_if_every_key_has_it(read_pickle, tiny, tiny_state) -> None:
    wrapped = {f"module.{key}": array for key, array in tiny.items()}
    assert_same(read_pickle(wrapped), tiny_state)
    wrapped["3.bias"] = wrapped.pop("module.3.bias")
    with pytest.raises(CheckpointError, match="missing"):
        read_pickle(wrapped)


def test_torch_names_keep_linear_weights_as_they_are(read_pickle, tiny_state) -> None:
    """Including the square one, whose shape would not tell."""
    arrays = {key: tensor.numpy() for key, tensor in tiny_state.items()}
    assert arrays["3.weight"].shape == (4, 4)
    assert_same(read_pickle({**arrays, "1.num_batches_tracked": np.array(7)}), tiny_state)


@pytest.mark.parametrize(("found", "given_as"), [(ENCODER, GENERATOR), (GENERATOR, ENCODER)])
@pytest.mark.parametrize("torch_names", [False, True])
def test_the_other_network_is_recognised(found: str, given_as: str, torch_names: bool) -> None:
    published = parameters_of(architectures.get(ARCH).NETWORKS[found][0])
    keys = [spec.torch_key if torch_names else key for key, spec in published.items()]
    stored = {key: StoredArray("float32", (1,), lambda: np.zeros(1, np.float32)) for key in keys}
    with pytest.raises(CheckpointError, match=f"this is the {found}, given as the {given_as}") as caught:
        match_state_dict(stored, ARCH, given_as, "x.pth")
    assert caught.value.kind == "checkpoint-keys"


@pytest.mark.parametrize(("arch", "other"), [("mobilefaceswap", "mobilefsgan"), ("mobilefsgan", "mobilefaceswap")])
def test_the_other_architectures_generator_is_recognised(arch: str, other: str) -> None:
    keys = [spec.torch_key for spec in parameters_of(architectures.get(other).NETWORKS[GENERATOR][0]).values()]
    stored = {key: StoredArray("float32", (1,), lambda: np.zeros(1, np.float32)) for key in keys}
    with pytest.raises(CheckpointError, match=f"this is the {other} generator, given as the generator") as caught:
        match_state_dict(stored, arch, GENERATOR, "x.pth")
    assert caught.value.hint == f"pass --arch {other}"


def test_arrays_cut_into_slices_are_refused_with_the_way_out(read_pickle, tiny) -> None:
    tiny["UnpackBigParamInfor@@"] = {"0.weight": {"OriginShape": (4, 3, 3, 3), "slices": ["0.weight@@.0"]}}
    with pytest.raises(CheckpointError, match="cut into slices") as caught:
        read_pickle(tiny)
    assert "protocol 4" in caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_small_encoder_is_known_by_its_keys(tmp_path, dtype) -> None:
    net = SmallEncoder()
    state = {key: value.to(dtype) for key, value in net.state_dict().items() if value.is_floating_point()}
    save_file(state, tmp_path / "encoder.safetensors")
    weights, _ = load_encoder(tmp_path / "encoder.safetensors")
    assert_same(weights, {key: value.float() for key, value in state.items()})


def test_a_small_encoder_with_a_key_too_few_says_which(tmp_path) -> None:
    state = {key: value for key, value in SmallEncoder().state_dict().items() if value.is_floating_point()}
    del state["embed.0.bias"]
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(embed.0.bias\), 0 unexpected"):
        load_encoder(tmp_path / "encoder.safetensors")
