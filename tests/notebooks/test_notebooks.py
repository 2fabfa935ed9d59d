"""Every notebook runs from top to bottom, and its exercise has an answer."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ANSWERS = {
    "01_the_2018_question": '''my_kernel = """
name = "6.12-mine"
base = "6.12"

[[grow]]
place = "page"
name = "my_addition"
offset = 8320
width = 4096
sample = 0x1234
"""''',
    # mov eax, [40000000H]
    "02_a_processor_step_by_step": 'my_lesson = bytes.fromhex("8b042500000040")',
}

PICTURES = {"01_the_2018_question": 3, "02_a_processor_step_by_step": 0}

# Libraries of Jupyter warn about their own future.
pytestmark = pytest.mark.filterwarnings("default")


def run(notebook, keep=lambda cell: True):
    notebook.cells = [cell for cell in notebook.cells if keep(cell)]
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    return notebook


def tagged(notebook, tag):
    [cell] = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]
    return cell


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_leaves_its_exercise_open(path):
    notebook = run(nbformat.read(path, 4))

    assert PICTURES[path.stem] == pictures(notebook)
    assert printed(tagged(notebook, "check")).startswith("not yet: ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_exercise_of_a_notebook_has_an_answer(path):
    notebook = nbformat.read(path, 4)
    tagged(notebook, "exercise").source = ANSWERS[path.stem]
    imports = next(cell for cell in notebook.cells if cell.cell_type == "code")
    needed = (imports.source, *(tagged(notebook, tag).source for tag in ("exercise", "check")))
    notebook = run(notebook, lambda cell: cell.source in needed)

    assert "solved\n" == printed(tagged(notebook, "check"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_its_outputs(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]

    assert [[]] * len(cells) == [cell.outputs for cell in cells]
    assert {None} == {cell.execution_count for cell in cells}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_public_names_only(path):
    code = "\n".join(
        re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "code"
    )
    names = {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    names |= {
        alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert [] == sorted(name for name in names if name.startswith("_"))


def test_there_is_a_notebook_for_every_answer():
    assert set(ANSWERS) == set(PICTURES) == {path.stem for path in NOTEBOOKS}
