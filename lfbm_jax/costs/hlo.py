"""Counts the operations that a compiled program runs, from its text in XLA's HLO.

A program is a set of computations, each a list of operations in the order of their execution. A
loop names the computations that it repeats, and a fusion the computation that it runs as a single
operation.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

# Operations that cost nothing by themselves; the computations that they call are counted. An
# asynchronous operation is counted where it starts.
FREE = frozenset(
    ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "while", "call")
    + ("conditional", "async-start", "async-update", "partition-id", "replica-id")
)
FREE_CALLS = frozenset(("AllocateBuffer", "ConcatBitcast"))  # On TPUs, these only name memory.
EXCHANGES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "bf16": 16}  # per number; other types have them in their names
PRECISIONS = {"highest": "float32", "high": "tensorfloat32"}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of a computation.

    Attributes:
        name: the name of its result.
        shape: the shape of its result, such as "f32[100,64]{1,0}" or "(s32[], f32[5]{0})".
        kind: the kind of operation, such as "fusion" or "dot".
        arguments: the names of the results that it takes, or the value of a constant.
        attributes: the rest of the line.
        root: whether its result is the result of the computation.
    """

    name: str
    shape: str
    kind: str
    arguments: str
    attributes: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of the operations whose results this one takes."""
        return re.findall(r"%([\w.\-]+)", self.arguments)

    def called(self, role: str) -> str:
        """The name in an attribute such as "body", which the operation must have."""
        return re.findall(rf"\b{role}=%?([\w.\-]+)", self.attributes)[0]


Computation = dict[str, Operation]  # name of the result -> operation, in the order of execution


@dataclasses.dataclass
class Count:
    """Counts of one run of a program on one device, with all repeats of loops.

    Attributes:
        kinds: how often each kind of operation runs, such as "copy" or "fusion kLoop".
        library_calls: how often each function of a library is called; these are not in `kinds`.
        flops: floating-point operations of matrix products and convolutions, by the precision that
            they request: "float32", "tensorfloat32" or "bfloat16", or "default" if they request
            none. Each multiply-add counts as two. Products with padding and with the zeros of a
            dilated input are left out.
        exchanged_bytes: bytes that this device passes to operations that exchange arrays between
            devices.
        modelled_cycles: the sum of the compiler's own estimates; 0 if it gives none.
    """

    kinds: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    library_calls: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    flops: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    exchanged_bytes: int = 0
    modelled_cycles: int = 0


def count(text: str) -> Count:
    """Counts one run of the program's entry computation.

    A loop counts as often as XLA says. If XLA does not say, but the loop's condition compares with
    a constant, that constant is taken, as for a counter that starts at 0. Any other loop counts
    once, such as the training update's loop over the steps of a call. All branches of a conditional
    are counted, but our programs have no conditionals once compiled.

    Args:
        text: a compiled module, as `jax.stages.Compiled.as_text` returns it.
    """
    computations, entry = parse(text)
    found = Count()
    for operation, computation, times in _run(computations, entry, 1):
        kind = operation.kind
        if kind in FREE or kind.endswith("-done") or _callee(operation) in FREE_CALLS:
            continue
        if kind == "custom-call":
            found.library_calls[_callee(operation)] += times
        else:
            found.kinds[_kind(operation)] += times
        if kind.removesuffix("-start") in EXCHANGES:
            found.exchanged_bytes += times * sum(
                _bytes(computation[name].shape) for name in operation.operands
            )
        for precision, flops in _products(computations, computation, operation):
            found.flops[precision] += times * flops
        cycles = re.search(r'"estimated_cycles":"(\d+)"', operation.attributes)
        found.modelled_cycles += times * int(cycles[1]) if cycles else 0
    return found


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Returns the computations of a module by name, and the name of its entry computation."""
    computations: dict[str, Computation] = {}
    entry, operations = "", {}
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            operations = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif operation := _operation(line):
            operations[operation.name] = operation
    return computations, entry


def _operation(line: str) -> Operation | None:
    head = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    if not head:
        return None
    rest = line[head.end() :]
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    kind = rest[: rest.index("(")]
    rest = rest[len(kind) :]
    end = _closing(rest)
    return Operation(head[2], shape, kind, rest[1:end], rest[end + 1 :], bool(head[1]))


def _closing(text: str) -> int:
    """The position of the parenthesis that closes the one at the start of the text."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position
    raise ValueError(f"unbalanced parentheses: {text[:80]}")


def _run(
    computations: Mapping[str, Computation], name: str, times: int
) -> Iterator[tuple[Operation, Computation, int]]:
    """Yields all operations, except those inside a fusion, and how often each runs."""
    computation = computations[name]
    for operation in computation.values():
        yield operation, computation, times
        if operation.kind == "while":
            repeats = times * _trips(computations, operation)
            yield from _run(computations, operation.called("body"), repeats)
        elif operation.kind == "call":
            yield from _run(computations, operation.called("to_apply"), times)
        elif operation.kind == "async-start":
            yield from _run(computations, operation.called("calls"), times)
        elif operation.kind == "conditional":
            branches = re.search(r"branch_computations=\{([^}]*)\}", operation.attributes)
            pair = map(operation.called, ("true_computation", "false_computation"))
            for branch in re.findall(r"[\w.\-]+", branches[1]) if branches else pair:
                yield from _run(computations, branch, times)


def _trips(computations: Mapping[str, Computation], loop: Operation) -> int:
    """How often a loop runs; 1 if unknown."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
        return int(known[1])
    condition = computations[loop.called("condition")]
    (root,) = (operation for operation in condition.values() if operation.root)
    if root.kind == "compare" and "direction=LT" in root.attributes:
        limit = condition[root.operands[1]]
        if limit.kind == "constant":
            return int(limit.arguments)
    return 1


def _callee(operation: Operation) -> str:
    """The function that a custom call calls; "" for any other operation."""
    named = re.search(r'custom_call_target="([^"]+)"', operation.attributes)
    return named[1] if named else ""


def _kind(operation: Operation) -> str:
    if operation.kind != "fusion":
        return operation.kind
    named = re.search(r'"fusion_backend_config":\{"kind":"([^"]+)"', operation.attributes)
    return "fusion " + (named[1] if named else operation.called("kind"))


def _products(
    computations: Mapping[str, Computation], computation: Computation, operation: Operation
) -> Iterator[tuple[str, int]]:
    """Yields the precision and the flops of each product in an operation or inside a fusion."""
    if operation.kind == "fusion":
        inner = computations[operation.called("calls")]
        for each in inner.values():
            yield from _products(computations, inner, each)
        return
    shapes = [_dims(computation[name].shape) for name in operation.operands]
    result = _dims(operation.shape)
    if operation.kind == "dot":
        yield _precision(computation, operation), _dot(operation, shapes[0], result)
    elif operation.kind == "convolution":
        flops = _convolution(operation, shapes[0], shapes[1], result)
        yield _precision(computation, operation), flops
    elif operation.kind == "custom-call":
        callee = _callee(operation)
        if callee.startswith("__cudnn$convBackwardInput"):
            flops = _convolution(operation, result, shapes[1], shapes[0])
        elif callee.startswith("__cudnn$convBackwardFilter"):
            flops = _convolution(operation, shapes[0], result, shapes[1])
        elif callee.startswith("__cudnn$conv"):
            flops = _convolution(operation, shapes[0], shapes[1], result)
        elif callee.startswith(("__cublas$gemm", "__cublas$lt$matmul")):
            flops = _dot(operation, shapes[0], result)
        else:
            return
        yield _precision(computation, operation), flops


def _precision(computation: Computation, operation: Operation) -> str:
    """The precision that a product requests; 16-bit numbers never need more than one pass."""
    if all(computation[name].shape.startswith("bf16") for name in operation.operands[:2]):
        return "bfloat16"
    asked = re.search(r"operand_precision=\{(\w+)", operation.attributes) or re.search(
        r'"operand_precision":\["(\w+)"', operation.attributes
    )
    return PRECISIONS.get(asked[1].lower(), "default") if asked else "default"


def _dot(operation: Operation, left: list[int], result: list[int]) -> int:
    """The flops of a dot: two per entry of the result and term of its sum."""
    contracted = re.findall(
        r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', operation.attributes
    )[0]
    terms = math.prod(left[int(axis)] for axis in re.findall(r"\d+", contracted))
    return 2 * math.prod(result) * terms


def _convolution(
    operation: Operation, inputs: list[int], kernel: list[int], outputs: list[int]
) -> int:
    """The flops of a convolution: two per output and kernel weight that meets an input.

    Args:
        operation: the convolution, or a call that computes one of its derivatives.
        inputs, kernel, outputs: the shapes of the convolution, also if a derivative is computed.
    """
    labels = re.findall(r"dim_labels=(\w+)_(\w+)->(\w+)", operation.attributes)
    of_input, of_kernel, of_output = labels[0]
    window = re.search(r"window=\{([^}]*)\}", operation.attributes)
    fields = dict(field.split("=") for field in window[1].split()) if window else {}
    flops = 2 * inputs[of_input.index("b")]
    flops *= kernel[of_kernel.index("i")] * kernel[of_kernel.index("o")]
    for axis in range(len(of_kernel) - 2):
        name = str(axis)

        def field(key, default, axis=axis):
            return fields[key].split("x")[axis] if key in fields else default

        low = int(field("pad", "0_0").split("_")[0])
        stride, dilation, spread = (
            int(field(key, "1")) for key in ("stride", "rhs_dilate", "lhs_dilate")
        )
        length = inputs[of_input.index(name)]
        positions = (
            output * stride + tap * dilation - low
            for output in range(outputs[of_output.index(name)])
            for tap in range(kernel[of_kernel.index(name)])
        )
        flops *= sum(p % spread == 0 and 0 <= p // spread < length for p in positions)
    groups = re.search(r"batch_group_count=(\d+)", operation.attributes)
    return flops // int(groups[1]) if groups else flops


def _dims(shape: str) -> list[int]:
    """The lengths of the axes of an array, or of the first array of a tuple."""
    found = re.search(r"\w+\[([\d,<=]*)\]", shape)
    return [int(length) for length in re.findall(r"\d+", found[1])] if found else []


def _bytes(shape: str) -> int:
    """The bytes of an array, or of a tuple of arrays."""
    total = 0
    for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shape):
        bits = BITS.get(dtype) or int(re.findall(r"\d+", dtype)[0])
        total += bits // 8 * math.prod(int(length) for length in dims.split(",") if length)
    return total
