"""Machine words are unsigned in every jitted function, in its signature and inside.

Numba types `word + 1` and `word + index` as signed numbers or as floats, without a warning. The
compiler's own type inference is asked here what every variable and every operation is.
"""

import ast
import inspect
import textwrap

import numpy as np
import pytest
from numba import types
from numba.core import compiler, ir
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.registry import cpu_target
from numba.core.typed_passes import NopythonTypeInference

import vmcs.jit
from vmcs.jit import jit, jit_disabled
from vmcs.warm import jitted_functions

pytestmark = pytest.mark.skipif(jit_disabled(), reason="the environment disables compiling")

PACKAGES = ("vmcs", "emu")
FUNCTIONS = sorted(jitted_functions(PACKAGES), key=lambda function: function.name)
ANNOTATED = {"int": "int64", "bool": "boolean", "np.uint64": "uint64", "np.uint32": "uint32"}

# Operations whose result numba takes from the types of both operands. A shift keeps the type of
# its left operand, and comparisons of signed with unsigned numbers are right.
MIXING = {"+", "-", "*", "//", "/", "%", "&", "|", "^"}


class TypedError(Exception):
    """Carries the types of a function out of the compiler, which has nothing more to do."""


@register_pass(mutates_CFG=False, analysis_only=True)
class HandOutTypes(FunctionPass):
    _name = "hand_out_types"

    def __init__(self):
        FunctionPass.__init__(self)

    def run_pass(self, state):
        raise TypedError(state.func_ir, state.typemap)


class InferenceOnly(compiler.CompilerBase):
    def define_pipelines(self):
        manager = PassManager("inference only")
        untyped = compiler.DefaultPassBuilder.define_untyped_pipeline(self.state)
        manager.passes.extend(untyped.passes)
        manager.add_pass(NopythonTypeInference, "infer types")
        manager.add_pass(HandOutTypes, "hand out types")
        manager.finalize()
        return [manager]


def inferred(function, signature):
    """Numba's intermediate code and types of a jitted function for one of its signatures."""
    source = vmcs.jit.for_compiler(function)
    wanted = vmcs.jit.numba_signature(signature, function.dtypes)
    flags = compiler.Flags()
    flags.nrt = True
    flags.error_model = "numpy"
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    try:
        compiler.compile_extra(
            cpu_target.typing_context,
            cpu_target.target_context,
            source,
            wanted.args,
            wanted.return_type,
            flags,
            {},
            pipeline_class=InferenceOnly,
        )
    except TypedError as handed:
        return handed.args
    raise AssertionError("the compiler ran on")


def is_signed(kind):
    return isinstance(kind, types.IntegerLiteral) or (
        isinstance(kind, types.Integer) and kind.signed
    )


def mixtures(function):
    """Operations of a word with a signed number, and variables that became floats."""
    found = []
    for signature in function.signatures:
        code, typemap = inferred(function, signature)
        floats = any("float" in kind.name for kind in (signature.returns, *signature.arguments))
        for block in code.blocks.values():
            for statement in block.find_insts(ir.Assign):
                value, line = statement.value, statement.loc.line
                if isinstance(typemap.get(statement.target.name), types.Float) and not floats:
                    found.append(f"line {line}: {statement.target.name} is a float")
                if not isinstance(value, ir.Expr) or value.op not in ("binop", "inplace_binop"):
                    continue
                kinds = [typemap[value.lhs.name], typemap[value.rhs.name]]
                symbol = symbol_of(value.fn)
                if types.uint64 in kinds and any(map(is_signed, kinds)) and symbol in MIXING:
                    found.append(f"line {line}: {kinds[0]} {symbol} {kinds[1]}")
    return found


SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "floordiv": "//", "truediv": "/", "mod": "%",
    "and_": "&", "or_": "|", "xor": "^",
}  # fmt: skip


def symbol_of(operation):
    return SYMBOLS.get(operation.__name__.removeprefix("i"), SYMBOLS.get(operation.__name__, ""))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_words_never_mix_with_signed_numbers(function):
    assert [] == mixtures(function)


def written_annotations(function):
    """The annotations of parameters and result as they stand in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function.py_func))).body[0]
    written = [argument.annotation for argument in tree.args.args]
    return [ast.unparse(node) if node is not None else "" for node in (*written, tree.returns)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_annotations_say_what_the_signature_says(function):
    annotations = written_annotations(function)

    for signature in function.signatures:
        kinds = [*signature.arguments, signature.returns]
        for annotation, kind in zip(annotations, kinds, strict=True):
            if annotation in ANNOTATED and not kind.dims:
                assert ANNOTATED[annotation] == kind.name


ONE = np.uint64(1)


@jit("uint64(uint64)")
def mixes(word):
    return word + 1


@jit("uint64(uint64, int64)")
def mixes_with_an_index(word, index):
    return np.uint64(word * index)


@jit("uint64(uint64, int64)")
def is_clean(word, index):
    return (word + ONE) >> np.uint64(index)


def test_a_mixture_is_found():
    [literal] = mixtures(mixes)
    [index] = mixtures(mixes_with_an_index)

    assert "uint64 + Literal[int](1)" in literal
    assert "uint64 * int64" in index
    assert [] == mixtures(is_clean)
