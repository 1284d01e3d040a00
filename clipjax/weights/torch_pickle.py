"""Read the pickle inside a PyTorch archive with an interpreter that can build tensors and nothing else.

Python's own `pickle.Unpickler` is not used, not even restricted: before any hook of ours is asked, one
opcode makes it allocate gigabytes (LONG_BINPUT) and a deeply nested dictionary key overflows its C stack.
Nothing is ever imported or called by a name that the file chooses.
"""

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipjax.errors import CheckpointError
from clipjax.weights.number_formats import TORCH_STORAGES

# The largest CLIP has about a thousand tensors of some thirty opcodes, three times that with Adam's moments.
MAX_PICKLE_BYTES = 16 << 20
_MAX_OPCODES = 500_000
_MAX_DIMENSIONS = 64


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """A run of `numel` numbers that the archive holds as the member `data/<key>`."""

    key: str
    dtype: np.dtype
    numel: int


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A strided view of a storage, as the pickle declares it: nothing is checked against the storage yet."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(eq=False, slots=True)
class ModuleRecord:
    """An object of a TorchScript archive: the name of its class and its attributes, inert."""

    class_name: str
    attributes: dict


def read_tensor_pickle(pickled: bytes, source: str) -> object:
    """Interpret a pickle as tensor records in dictionaries, lists, TorchScript modules and plain values.

    `source` names the file in error messages.

    Raises:
      CheckpointError: the pickle asks for anything beyond that, or is damaged or too large.
    """
    if len(pickled) > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{source}: its pickle has {len(pickled)} bytes, too many for a list of tensors")
    try:
        return _Interpreter().run(pickled)
    except _Refusal as refusal:
        raise CheckpointError(
            f"{source}: {refusal}; only tensors are read from a pickle. Re-save the state dict alone with "
            "a recent PyTorch, or convert it to safetensors"
        ) from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{source}: its pickle is damaged ({error})") from error


class _Refusal(Exception):
    """The pickle is well formed but asks for something that is not a tensor."""


@dataclass(frozen=True, slots=True)
class _Builder:
    """Stands for a function of PyTorch that a pickle may call; `build` gets the arguments."""

    build: Callable[[tuple], object]


@dataclass(frozen=True, slots=True)
class _ModuleClass:
    name: str


@dataclass(frozen=True, slots=True)
class _NamedType:
    """A torch dtype: may stand beside the tensors, means nothing here."""

    name: str


class _Interpreter:
    """The stack machine of pickle, with the opcodes that a state dict needs."""

    def __init__(self):
        self.stack: list = []
        self.below_marks: list[list] = []
        self.memo: dict[int, object] = {}

    def run(self, pickled: bytes) -> object:
        stream = io.BytesIO(pickled)
        for _ in range(_MAX_OPCODES):
            opcode = _OPCODES.get(stream.read(1).decode("latin-1"))
            if opcode is None:
                raise ValueError("it ends early or has an unknown opcode")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name not in _KNOWN:
                raise _Refusal(f"its pickle uses the opcode {name}")
            if name == "GLOBAL":  # the reader of pickletools takes a backslash for an escape
                argument = f"{_line(stream)} {_line(stream)}"
            else:
                argument = opcode.arg.reader(stream) if opcode.arg else None
            if name in _LITERALS:
                self.stack.append(_literal(argument))
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _STEPS:
                _STEPS[name](self, argument)
        raise _Refusal(f"its pickle has more than {_MAX_OPCODES} steps")

    def pop_to_mark(self) -> list:
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    def mark(self, _) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("it refers to a value that is not there")
        self.stack.append(self.memo[index])

    def make_tuple(self, length: int | None) -> None:
        items = self.pop_to_mark() if length is None else [self.stack.pop() for _ in range(length)][::-1]
        self.stack.append(tuple(items))

    def make_list(self, _) -> None:
        items = self.pop_to_mark()
        self.stack.append(items)

    def make_dict(self, _) -> None:
        items = self.pop_to_mark()
        self.stack.append({})
        self.set_items(items)

    def append(self, items: list) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Refusal(f"its pickle appends to {_kind(self.stack[-1])}")
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _Refusal(f"its pickle sets items of {_kind(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # other keys are not even hashed: that of a deeply nested tuple recurses without a limit
            if type(key) is not str and type(key) is not int:
                raise _Refusal(f"its pickle holds a dictionary with {_kind(key)} as key")
            if key in target:
                raise _Refusal(f"its pickle defines the entry {_shown(str(key))} twice")
            target[key] = value

    def find_global(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
            if not (isinstance(name, str) and isinstance(module, str)):
                raise _Refusal("its pickle asks for something without a name")
            argument = f"{module} {name}"
        if argument in _GLOBALS:
            self.stack.append(_GLOBALS[argument])
        elif re.fullmatch(r"__torch__(\.\w+)* \w+", argument, re.ASCII):
            self.stack.append(_ModuleClass(argument.replace(" ", ".")))
        else:
            raise _Refusal(f"its pickle asks for {_shown(argument.replace(' ', '.'))}")

    def reduce(self, _) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Builder) or not isinstance(arguments, tuple):
            raise _Refusal(f"its pickle calls {_kind(function)}")
        self.stack.append(function.build(arguments))

    def new_object(self, _) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        if not isinstance(cls, _ModuleClass) or arguments != ():
            raise _Refusal(f"its pickle makes an object of {_kind(cls)}")
        self.stack.append(ModuleRecord(cls.name, {}))

    def set_state(self, _) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, dict) and isinstance(state, dict):
            return  # `_metadata` of a state dict: version numbers of modules
        if not isinstance(target, ModuleRecord) or not isinstance(state, dict) or target.attributes:
            raise _Refusal(f"its pickle sets the state of {_kind(target)}")
        target.attributes = state

    def find_storage(self, _) -> None:
        match self.stack.pop():
            case ("storage", np.dtype() as dtype, str(key), str(), int(numel)):
                if not re.fullmatch(r"[\w-]{1,64}", key, re.ASCII):
                    raise _Refusal(f"its pickle names a storage {_shown(key)}")
                self.stack.append(StorageRecord(key, dtype, numel))
            case _:
                raise _Refusal("its pickle refers to something that is not a tensor storage")


def _rebuild_tensor(arguments: tuple) -> TensorRecord:
    match arguments:
        case (StorageRecord() as storage, int(offset), tuple(shape), tuple(strides), _, _, *metadata):
            # metadata marks conjugate and negated views, whose numbers are not those of the storage
            plain = len(metadata) <= 1 and not any(metadata)
            sized = len(shape) == len(strides) <= _MAX_DIMENSIONS
            if plain and sized and all(type(number) is int for number in (*shape, *strides)):
                return TensorRecord(storage, offset, shape, strides)
    raise _Refusal("its pickle describes a tensor in an unknown way")


def _rebuild_parameter(arguments: tuple) -> TensorRecord:
    match arguments:
        case (TensorRecord() as tensor, _, _):
            return tensor
    raise _Refusal("its pickle describes a parameter in an unknown way")


def _empty_dict(arguments: tuple) -> dict:
    if arguments:
        raise _Refusal("its pickle makes an OrderedDict in an unknown way")
    return {}


def _line(stream: io.BytesIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a name without an end")
    return line[:-1].decode("utf-8")


def _literal(value: object) -> object:
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise _Refusal("its pickle holds an integer of more than 64 bits")
    return value


def _kind(value: object) -> str:
    """Name the type of a value for a message, never the value: it may be nested without end."""
    if isinstance(value, _ModuleClass | ModuleRecord):
        return "a TorchScript object"
    return f"a value of type {type(value).__name__.lstrip('_')}"


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")[1:-1]


_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_LITERALS = _NUMBERS | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_WITHOUT_EFFECT = {"PROTO", "FRAME"}
_STEPS: dict[str, Callable[[_Interpreter, Any], None]] = {
    "MARK": _Interpreter.mark,
    "BINPUT": _Interpreter.put,
    "LONG_BINPUT": _Interpreter.put,
    "MEMOIZE": _Interpreter.put,
    "BINGET": _Interpreter.get,
    "LONG_BINGET": _Interpreter.get,
    "TUPLE": _Interpreter.make_tuple,
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": _Interpreter.make_list,
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "DICT": _Interpreter.make_dict,
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _Interpreter.find_global,
    "STACK_GLOBAL": _Interpreter.find_global,
    "REDUCE": _Interpreter.reduce,
    "NEWOBJ": _Interpreter.new_object,
    "BUILD": _Interpreter.set_state,
    "BINPERSID": _Interpreter.find_storage,
}
_KNOWN = _LITERALS | _CONSTANTS.keys() | _WITHOUT_EFFECT | _STEPS.keys()
_GLOBALS: dict[str, object] = {
    "torch._utils _rebuild_tensor_v2": _Builder(_rebuild_tensor),
    "torch._utils _rebuild_parameter": _Builder(_rebuild_parameter),
    "collections OrderedDict": _Builder(_empty_dict),
    **{f"torch {name}": dtype for name, dtype in TORCH_STORAGES.items()},
    **{f"torch {name}": _NamedType(name) for name in map(str, TORCH_STORAGES.values())},
}
