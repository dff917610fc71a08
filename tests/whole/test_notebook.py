"""The notebook of the examples runs, and gives the numbers that files and a module on disk give."""

import json
from pathlib import Path

import pytest

import easycoreset as ec

NOTEBOOK = Path(__file__).parents[2] / "examples" / "in_memory.ipynb"
NUMBERS = """
import json
numbers = {
    "aign": scores["aign"].tolist(),
    "kept": coreset.index.tolist(),
    "clean": result.clean.accuracy,
    "worst": [outcome.accuracy for outcome in result.worst],
    "attacked": float((model(x_adv).argmax(1) == y).float().mean()),
    "compared": comparison.results["accuracy"].to_pylist(),
}
print(json.dumps(numbers))
"""
LOAD = """

def load():
    return data
"""


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_and_files_give_the_same_numbers(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, 4)
    source = "\n\n".join(cell.source for cell in notebook.cells[1:3])
    notebook.cells.append(nbformat.v4.new_code_cell(NUMBERS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    numbers = json.loads(
        next(o["text"] for o in reversed(shown) if o["output_type"] == "stream" and o["name"] == "stdout")
    )
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert kinds.count("text/html") >= 4 and kinds.count("application/vnd.plotly.v1+json") == 3
    assert not any(output["output_type"] == "error" for output in shown)

    (tmp_path / "in_file.py").write_text(source + LOAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {"data": "in_file:load", "model": "in_file:Net"}
    scores = ec.score(**files, epochs=2, out=tmp_path / "s")
    coreset = ec.select(scores=tmp_path / "s", method="easycore", fraction=0.5, out=tmp_path / "c.parquet")
    ec.train(**files, coreset=tmp_path / "c.parquet", epochs=3, out=tmp_path / "t")
    evaluated = {"attack": "pgd", "eps": [1 / 255, 2 / 255], "out": tmp_path / "e"}
    result = ec.evaluate(**files, weights=tmp_path / "t", **evaluated)
    grid = {"fractions": 0.5, "epochs": 2, "seeds": 2, "attack": "pgd", "eps": 2 / 255, "vary": {"score.epochs": 2}}
    compared = ec.compare(**files, **grid, methods=["random", "easycore"], workers=0, out=tmp_path / "g").results
    assert numbers["aign"] == scores["aign"].tolist() and numbers["kept"] == coreset.index.tolist()
    assert (numbers["clean"], numbers["worst"]) == (result.clean.accuracy, [o.accuracy for o in result.worst])
    assert numbers["attacked"] == pytest.approx(result.worst[1].accuracy)
    assert numbers["compared"] == compared["accuracy"].to_pylist()
