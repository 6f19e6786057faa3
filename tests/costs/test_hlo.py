"""The counter of operations, on a program written by hand and on convolutions of ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfbm_jax.costs import hlo

# A loop of unknown length around one of 3 (as a GPU's compiler says it) around one of 4 (as a TPU's
# does). An iteration of the innermost takes 2 kernels, one with a product of [2, 3] and [3, 5], and
# 10 cycles; of the middle one 1 kernel and two library calls, a product and a solve; the outer one
# reduces 40 bytes over devices and moves 24. Before them one computation runs once each by a call,
# asynchronously and in two conditionals, of which the other branch is counted too.
PROGRAM = """
HloModule jit_step, is_scheduled=true

%product (left: f32[2,3], right: f32[3,5]) -> f32[2,5] {
  %left = f32[2,3]{1,0} parameter(0)
  %right = f32[3,5]{1,0} parameter(1)
  ROOT %dot.1 = f32[2,5]{1,0} dot(%left, %right), lhs_contracting_dims={1}, rhs_contracting_dims={0}, operand_precision={highest,highest}
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.0 = f32[] add(%a, %b)
}

%inner_body (arg.1: (s32[], f32[2,3], f32[3,5], f32[2,5])) -> (s32[], f32[2,3], f32[3,5], f32[2,5]) {
  %arg.1 = (s32[]{:T(128)}, f32[2,3]{1,0:T(8,128)S(1)}, /*index=2*/f32[3,5]{1,0}, f32[2,5]{1,0}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  %x.1 = f32[2,3]{1,0:T(8,128)S(1)} get-tuple-element(%arg.1), index=1
  %y.1 = f32[3,5]{1,0} get-tuple-element(%arg.1), index=2
  %one.1 = s32[] constant(1)
  %next.1 = s32[] add(%i.1, %one.1)
  %fusion.1 = f32[2,5]{1,0:T(8,128)} fusion(%x.1, %y.1), kind=kOutput, calls=%product, backend_config={"window_config":{"estimated_cycles":"10"}}
  ROOT %tuple.1 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) tuple(%next.1, %x.1, %y.1, %fusion.1)
}

%inner_condition (arg.2: (s32[], f32[2,3], f32[3,5], f32[2,5])) -> pred[] {
  %arg.2 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) parameter(0)
  %four = s32[]{:T(128)} constant(4)
  %i.2 = s32[]{:T(128)} get-tuple-element(%arg.2), index=0
  ROOT %less = pred[]{:T(512)} compare(%i.2, %four), direction=LT
}

%middle_body (arg.3: (s32[], f32[2,3], f32[3,5], f32[2,5])) -> (s32[], f32[2,3], f32[3,5], f32[2,5]) {
  %arg.3 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) parameter(0)
  %while.1 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) while(%arg.3), condition=%inner_condition, body=%inner_body
  %x.3 = f32[2,3]{1,0} get-tuple-element(%while.1), index=1
  %y.3 = f32[3,5]{1,0} get-tuple-element(%while.1), index=2
  %gemm = (f32[2,5]{1,0}, s8[64]{0}) custom-call(%x.3, %y.3), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"],"lhs_batch_dimensions":[],"rhs_batch_dimensions":[]},"precision_config":{"operand_precision":["DEFAULT","DEFAULT"]}}}
  %z.3 = f32[2,5]{1,0} get-tuple-element(%gemm), index=0
  %solved = f32[2,5]{1,0} custom-call(%z.3), custom_call_target="__cublas$triangularSolve"
  %copied = f32[2,5]{0,1} copy(%solved)
  ROOT %tuple.3 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) tuple(%i.3, %x.3, %y.3, %copied)
}

%outer_body (arg.4: (s32[], f32[2,3], f32[3,5], f32[2,5])) -> (s32[], f32[2,3], f32[3,5], f32[2,5]) {
  %arg.4 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) parameter(0)
  %while.2 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) while(%arg.4), condition=%inner_condition, body=%middle_body, backend_config={"known_trip_count":{"n":"3"}}
  %z.4 = f32[2,5]{1,0} get-tuple-element(%while.2), index=3
  %x.4 = f32[2,3]{1,0} get-tuple-element(%while.2), index=1
  %buffer = f32[2,3]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %moving = (f32[2,3]{1,0}, f32[2,3]{1,0}, u32[]) copy-start(%x.4)
  %moved = f32[2,3]{1,0} copy-done(%moving)
  %reducing = f32[2,5]{1,0} all-reduce-start(%z.4), replica_groups={{0,1}}, to_apply=%sum
  %reduced = f32[2,5]{1,0} all-reduce-done(%reducing)
  ROOT %tuple.4 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) tuple(%i.4, %moved, %y.4, %reduced)
}

%outer_condition (arg.5: (s32[], f32[2,3], f32[3,5], f32[2,5])) -> pred[] {
  %arg.5 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) parameter(0)
  %i.5 = s32[] get-tuple-element(%arg.5), index=0
  %limit = s32[] get-tuple-element(%arg.5), index=0
  ROOT %less.5 = pred[] compare(%i.5, %limit), direction=LT
}

%one (v.1: f32[4]) -> f32[4] {
  %v.1 = f32[4]{0} parameter(0)
  ROOT %negated = f32[4]{0} negate(%v.1)
}

%other (v.2: f32[4]) -> f32[4] {
  %v.2 = f32[4]{0} parameter(0)
  ROOT %root = f32[4]{0} sqrt(%v.2)
}

ENTRY %main (arg.6: (s32[], f32[2,3], f32[3,5], f32[2,5]), v: f32[4], p: pred[]) -> (s32[], f32[2,3], f32[3,5], f32[2,5]) {
  %arg.6 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) parameter(0)
  %v = f32[4]{0} parameter(1)
  %p = pred[] parameter(2)
  %called = f32[4]{0} call(%v), to_apply=%one
  %begun = ((f32[4]{0}), f32[4]{0}, u32[]) async-start(%called), calls=%one
  %ended = f32[4]{0} async-done(%begun)
  %chosen = f32[4]{0} conditional(%p, %v, %v), true_computation=%one, false_computation=%other
  %picked = f32[4]{0} conditional(%p, %v, %v), branch_computations={%one, %other}
  ROOT %while.3 = (s32[], f32[2,3]{1,0}, f32[3,5]{1,0}, f32[2,5]{1,0}) while(%arg.6), condition=%outer_condition, body=%outer_body
}
"""  # noqa: E501


def test_nested_loops_are_multiplied_out():
    found = hlo.count(PROGRAM)
    assert found.kinds == {
        "add": 3 * 4,
        "fusion kOutput": 3 * 4,
        "copy": 3,
        "copy-start": 1,
        "all-reduce-start": 1,
        "negate": 4,
        "sqrt": 2,
    }
    assert found.library_calls == {"__cublas$gemm": 3, "__cublas$triangularSolve": 3}
    product = 2 * 2 * 3 * 5
    assert found.flops == {"float32": 3 * 4 * product, "default": 3 * product}
    assert found.exchanged_bytes == 4 * 2 * 5
    assert found.modelled_cycles == 3 * 4 * 10


@pytest.mark.parametrize(
    "strides, padding, spread, dilation, groups",
    (
        ((1, 1), "VALID", (1, 1), (1, 1), 1),
        ((2, 1), [(1, 2), (0, 1)], (1, 1), (1, 1), 1),
        ((1, 1), [(2, 2), (1, 3)], (2, 3), (1, 1), 1),  # a transposed convolution
        ((1, 2), [(3, 0), (2, 2)], (1, 2), (2, 1), 2),
    ),
)
def test_a_convolution_of_ones_adds_up_to_its_products(strides, padding, spread, dilation, groups):
    image = np.ones((3, 5, 6, 4), np.float32)
    kernel = np.ones((3, 2, 4 // groups, 6), np.float32)

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(
            image,
            kernel,
            strides,
            padding,
            spread,
            dilation,
            ("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
            precision="highest",
        )

    compiled = jax.jit(convolve).lower(image, kernel).compile()
    products = jnp.sum(compiled(image, kernel))
    assert hlo.count(compiled.as_text()).flops == {"float32": 2 * int(products)}


def test_derivatives_of_a_convolution_by_a_library_cost_as_much_as_itself():
    """cuDNN's three functions of one convolution: side 8, kernel 4, stride 2, padding 1."""
    line = (
        "  %call = ({result}, u8[0]) custom-call(%a, %b),"
        " window={{size=4x4 stride=2x2 pad=1_1x1_1}},"
        " dim_labels=b01f_o01i->b01f, operand_precision={{high,high}},"
        ' custom_call_target="__cudnn${function}"'
    )
    large, small, kernel = "f32[7,8,8,3]{3,2,1,0}", "f32[7,4,4,5]{3,2,1,0}", "f32[5,4,4,3]{3,2,1,0}"
    per_axis = 4 * 4 - 2  # At each end one of the taps is on padding.
    for function, a, b, result in (
        ("convForward", large, kernel, small),
        ("convBiasActivationForward", large, kernel, small),
        ("convBackwardInput", small, kernel, large),
        ("convBackwardFilter", large, small, kernel),
    ):
        lines = (
            "ENTRY %main () -> f32[] {",
            f"  %a = {a} parameter(0)",
            f"  %b = {b} parameter(1)",
            line.format(result=result, function=function),
            "}",
        )
        found = hlo.count("\n".join(lines))
        assert found.flops == {"tensorfloat32": 2 * 7 * 3 * 5 * per_axis**2}, function
        assert found.library_calls == {f"__cudnn${function}": 1}
