"""A .pdparams file from a stranger must not run anything, hang, or take the machine's memory."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.errors import CheckpointError

HEAD = b"\x80\x04"
DTYPE = b"cnumpy\ndtype\n(\x8c\x02f4\x89\x88tR(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"


def array(shape: bytes, data: bytes, dtype: bytes = DTYPE) -> bytes:
    """Opcodes for one array; ``shape`` as opcodes that leave a tuple."""
    return EMPTY_ARRAY + b"(K\x01" + shape + dtype + b"\x89C" + bytes([len(data)]) + data + b"tb"


def in_dict(value: bytes) -> bytes:
    return HEAD + b"}\x8c\x011" + value + b"s."


class Call:
    def __init__(self, function, *args) -> None:
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def test_a_pickle_that_runs_a_command_is_refused_and_does_not_run_it(read_pickle, tiny, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    data = pickle.dumps({**tiny, "x": Call(os.system, f"touch {mark}")}, protocol=4)
    with pytest.raises(CheckpointError, match=r"posix\.system") as caught:
        read_pickle(data)
    assert caught.value.kind == "checkpoint-unsafe"
    assert caught.value.exit_code == 3
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists(), "the attack itself must work, or the test shows nothing"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (eval, ("1",), r"(builtins|__builtin__)\.eval"),
        (getattr, (1, "real"), r"(builtins|__builtin__)\.getattr"),
        (subprocess.Popen, (["true"],), r"(subprocess|commands)\.Popen"),
        (np.load, ("x.npy",), r"numpy\.load"),
        (np.zeros, (10**12,), r"numpy\.zeros"),
        (bytearray, (10**12,), r"(builtins|__builtin__)\.bytearray"),
    ],
)
def test_every_other_global_is_refused_by_its_name(read_pickle, protocol: int, function, args, named: str) -> None:
    with pytest.raises(CheckpointError, match=named) as caught:
        read_pickle(pickle.dumps({"x": Call(function, *args)}, protocol=protocol))
    assert caught.value.kind == "checkpoint-unsafe"


def test_a_dotted_name_does_not_reach_an_attribute_of_an_allowed_one(read_pickle) -> None:
    with pytest.raises(CheckpointError, match=r"numpy\.ndarray\.tofile"):
        read_pickle(HEAD + b"\x8c\x05numpy\x8c\x0endarray.tofile\x93.")


@pytest.mark.parametrize(
    ("name", "opcodes"),
    [
        ("EXT1", b"\x82\x01"),
        ("EXT4", b"\x84\x01\x00\x00\x00"),
        ("INST", b"(ios\nsystem\n"),
        ("OBJ", b"(cnumpy\nndarray\no"),
        ("NEWOBJ", b"cnumpy\nndarray\n)\x81"),
        ("NEWOBJ_EX", b"cnumpy\nndarray\n)}\x92"),
        ("PERSID", b"Pid\n"),
        ("BINPERSID", b"K\x01Q"),
        ("NEXT_BUFFER", b"\x97"),
        ("FLOAT", b"F1.0\n"),
    ],
)
def test_opcodes_that_weights_never_need_are_refused_by_name(read_pickle, name: str, opcodes: bytes) -> None:
    with pytest.raises(CheckpointError, match=rf"\b{name}\b") as caught:
        read_pickle(HEAD + opcodes + b".")
    assert caught.value.kind == "checkpoint-unsafe"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        HEAD,
        b"\x80\x06.",
        b"\x80\x01.",
        b"(dp0\n.",  # protocol 0
        HEAD + b".",
        HEAD + b"t.",
        HEAD + b"h\x05.",
        HEAD + b"j\xff\xff\xff\xff.",
        HEAD + b"K\x01K\x02s.",
        HEAD + b"}K\x01s.",
        HEAD + b"}(K\x01u.",
        HEAD + b"K\x01(K\x02e.",
        HEAD + b"\xff.",
        HEAD + b"\x8c\x02\xff\xff.",
        HEAD + b"\x8a\xff" + b"\x01" * 255 + b".",
        HEAD + b"K\x01)R.",
        HEAD + b"ccollections\nOrderedDict\nK\x01R.",
        HEAD + b"ccollections\nOrderedDict\n(K\x01tR.",
        HEAD + b"K\x01}b.",
        HEAD + b"]K\x01b.",
        HEAD + b"cnumpy\ndtype\n(\x8c\x02f4\x89\x88tR(K\x03\x8c\x01<]NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
        HEAD + b"]K\x01a.",
        HEAD + b"N.",
        HEAD + b"]" * 500 + b".",
        b"PK\x03\x04not a pickle",
        b"\x1f\x8b\x08",
        b"<html>404</html>",
    ],
)
def test_malformed_pickles_are_unreadable(read_pickle, data: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_pickle(data)
    assert caught.value.kind == "checkpoint-unreadable"
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "claim",
    [
        b"\x8e" + struct.pack("<Q", 1 << 62),  # BINBYTES8
        b"\x96" + struct.pack("<Q", (1 << 64) - 1),  # BYTEARRAY8
        b"\x8d" + struct.pack("<Q", 1 << 40),  # BINUNICODE8
        b"B" + struct.pack("<I", (1 << 32) - 1),
        b"X" + struct.pack("<I", (1 << 32) - 1),
        b"\x95" + struct.pack("<Q", 1 << 40),  # FRAME
    ],
)
def test_a_length_larger_than_the_file_claims_no_memory(read_pickle, claim: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="are left") as caught:
        read_pickle(HEAD + claim + b"abc.")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.kind == "checkpoint-unreadable"
    assert peak < 1 << 20


def test_a_memo_index_of_four_billion_claims_no_memory(read_pickle) -> None:
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        read_pickle(HEAD + b"Nr\xff\xff\xff\xff.")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


SHAPES = {
    "huge": b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86",
    "2**63 in all": b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"K\x02\x86",
    "overflows to the right size": b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"K\x08K\x01\x87",
    "negative": b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86",
    "minus one": b"J\xff\xff\xff\xff\x85",
    "bool": b"\x88\x85",
    "float": b"G\x3f\xf0\x00\x00\x00\x00\x00\x00\x85",
    "text": b"\x8c\x011\x85",
    "nested": b"K\x01\x85\x85",
    "too many": b"(" + b"K\x01" * 60 + b"t",
    "list": b"]",
    "one too many": b"K\x02\x85",
    "zero": b"K\x00\x85",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_array_shapes_that_lie_are_refused(read_pickle, shape: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_pickle(in_dict(array(shape, b"\0\0\0\0")))
    assert caught.value.kind == "checkpoint-unreadable"


def test_the_handwritten_array_is_otherwise_sound(read_pickle) -> None:
    with pytest.raises(CheckpointError, match=r"1 unexpected \(1\)") as caught:
        read_pickle(in_dict(array(b"K\x01\x85", b"\0\0\0\0")))
    assert caught.value.kind == "checkpoint-keys"


@pytest.mark.parametrize(
    "opcodes",
    [
        EMPTY_ARRAY.replace(b"K\x00\x85", b"J\xff\xff\xff\x7f\x85"),  # _reconstruct of a huge shape
        EMPTY_ARRAY.replace(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"),
        EMPTY_ARRAY + EMPTY_ARRAY + b"b",  # an array as another's state
        EMPTY_ARRAY + b"}b",
        EMPTY_ARRAY + b"(K\x01K\x01\x85Nttb",
        DTYPE + b"Nb",
        b"c_codecs\nencode\n\x8c\x01a\x8c\x05utf-7\x86R",
        b"c_codecs\nencode\n\x8c\x01a\x8c\x03hex\x86R",
        b"c_codecs\nencode\n\x8c\x01a\x85R",
        b"c_codecs\nencode\n\x8c\x02\xc4\x80\x8c\x06latin1\x86R",  # U+0100 has no latin-1 byte
        b"cbuiltins\ntuple\n)R",
        b"cbuiltins\ntuple\n\x8c\x01a\x85R",
        b"cnumpy.core.numeric\n_frombuffer\n(C\x04abcd" + DTYPE + b"K\x01\x85\x8c\x01KtR",
        b"cnumpy.core.numeric\n_frombuffer\n(C\x04abcd" + DTYPE + b"K\x02\x85\x8c\x01CtR",
        b"cnumpy\nndarray\nK\x05\x85R",
    ],
)
def test_allowed_callables_check_their_arguments(read_pickle, opcodes: bytes) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_pickle(in_dict(opcodes))
    assert caught.value.kind == "checkpoint-unreadable"


def test_an_array_without_contents_is_refused(read_pickle) -> None:
    with pytest.raises(CheckpointError, match="1 holds an array without contents") as caught:
        read_pickle(in_dict(EMPTY_ARRAY))
    assert caught.value.kind == "checkpoint-values"


def test_an_object_array_does_not_build_objects(read_pickle, tiny, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    tiny["0.bias"] = np.array([Call(os.system, f"touch {mark}")] * 4, dtype=object)
    with pytest.raises(CheckpointError, match="posix"):
        read_pickle(tiny)
    assert not mark.exists()
    tiny["0.bias"] = np.array([None] * 4, dtype=object)
    with pytest.raises(CheckpointError, match=r"0\.bias is of type object") as caught:
        read_pickle(tiny)
    assert caught.value.kind == "checkpoint-values"


def test_a_structured_array_is_refused(read_pickle, tiny) -> None:
    tiny["0.bias"] = np.zeros(4, [("a", "f4")])
    with pytest.raises(CheckpointError, match=r"0\.bias is of type NumPy V4"):
        read_pickle(tiny)


def test_a_type_that_calls_itself_float32_is_not_taken_for_it(read_pickle, tiny) -> None:
    data = pickle.dumps(tiny, protocol=2).replace(b"X\x02\x00\x00\x00f4", b"X\x07\x00\x00\x00float32")
    assert b"float32" in data
    with pytest.raises(CheckpointError, match="is of type NumPy float32"):
        read_pickle(data)


def test_one_payload_used_ten_thousand_times_is_more_than_the_file_has(read_pickle) -> None:
    data = bytes(40_000)
    opcodes = [b"B" + struct.pack("<I", len(data)) + data + b"\x94" + DTYPE + b"\x94" + EMPTY_ARRAY.replace(b"tR", b"t\x94R")]
    one = EMPTY_ARRAY + b"(K\x01M\x10\x27\x85h\x01\x89h\x00tb"
    body = b"".join(b"X\x04\x00\x00\x00" + b"%04d" % i + one for i in range(10_000))
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match="more array bytes than the file has"):
        read_pickle(HEAD + opcodes[0] + b"}(" + body + b"u.")
    assert time.perf_counter() - started < 5


def test_text_encoded_ten_thousand_times_is_more_than_the_file_has(read_pickle) -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"\x94"
    again = b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86R"
    with pytest.raises(CheckpointError, match="more array bytes than the file has"):
        read_pickle(HEAD + text + again * 10_000 + b".")


def test_a_million_opcodes_end_in_time(read_pickle) -> None:
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match="1,000,000 pickle opcodes"):
        read_pickle(HEAD + b"N" * 3_000_000 + b".")
    assert time.perf_counter() - started < 10


def test_tuples_nested_half_a_million_deep_end_in_an_error_not_a_crash(tmp_path: Path) -> None:
    """In a process of its own: Python's own unpickler, and PyTorch's, die of this by a stack overflow."""
    file = tmp_path / "deep.pdparams"
    file.write_bytes(HEAD + b"}" + b")" + b"\x85" * 500_000 + b"K\x01s.")
    code = "import sys; from pathlib import Path; from mfs_deploy.checkpoint.load import load; load(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr
    assert "neither text nor integer" in done.stderr


def test_a_dict_that_holds_itself_is_refused(read_pickle) -> None:
    loop: dict[str, object] = {}
    loop["a"] = loop
    with pytest.raises(CheckpointError, match="a holds a dict"):
        read_pickle(loop)


def test_control_characters_of_a_name_do_not_reach_the_terminal(read_pickle) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_pickle(HEAD + b"\x8c\x07\x1b[2Jos\n\x8c\x06system\x93.")
    assert caught.value.message.isprintable()


def test_an_ordered_dict_of_arrays_is_fine(read_pickle, tiny) -> None:
    loaded = read_pickle(collections.OrderedDict(tiny))
    assert len(loaded) == len(tiny)
