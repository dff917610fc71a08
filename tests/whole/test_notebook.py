"""The notebook of the examples runs, and gives the numbers that files and a module on disk give."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "in_memory.ipynb"
NUMBERS = """
import json
numbers = {
    "aign": scores["aign"].tolist(),
    "kept": coreset.index.tolist(),
    "clean": result.clean.accuracy,
    "worst": [outcome.accuracy for outcome in result.worst],
    "compared": comparison.results["accuracy"].to_pylist(),
}
"""
IN_NOTEBOOK = """
numbers["attacked"] = float((model(x_adv).argmax(1) == y).float().mean())
print(json.dumps(numbers))
"""
SLOW_WORK = """
import time
from easycoreset.progress import progress
for label, seconds in (("quick work", 0), ("slow work", 0.8)):
    with progress(label, 3) as bar:
        for _ in range(3):
            time.sleep(seconds)
            bar.advance()
"""
LOAD = """

def load():
    return data
"""
FILES = """
import easycoreset as ec

if __name__ == "__main__":
    files = {"data": "in_file:load", "model": "in_file:Net"}
    scores = ec.score(**files, epochs=2, out="s")
    coreset = ec.select(scores="s", method="easycore", fraction=0.5, out="c.parquet")
    ec.train(**files, coreset="c.parquet", epochs=3, out="t")
    result = ec.evaluate(**files, weights="t", attack="pgd", eps=[1 / 255, 2 / 255], out="e")
    grid = {"fractions": 0.5, "epochs": 2, "seeds": 2, "attack": "pgd", "eps": 2 / 255, "vary": {"score.epochs": 2}}
    comparison = ec.compare(**files, **grid, methods=["random", "easycore"], workers=0, out="g")
    {numbers}
    print(json.dumps(numbers))
"""


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_and_files_give_the_same_numbers(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, 4)
    source = "\n\n".join(cell.source for cell in notebook.cells[1:3])
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in (SLOW_WORK, NUMBERS + IN_NOTEBOOK)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # both are processes of their own, with one thread
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    streams = [o["text"] for o in shown if o["output_type"] == "stream" and o["name"] == "stdout"]
    numbers = json.loads(streams[-1])
    kinds = [kind for output in shown for kind in output.get("data", {})]
    bars = "".join(o["text"] for o in shown if o["output_type"] == "stream" and o["name"] == "stderr")
    assert "slow work:  67%" in bars and "2/3" in bars and "quick work" not in bars
    assert sum("<iframe srcdoc=" in output.get("data", {}).get("text/html", "") for output in shown) == 1  # the report
    assert kinds.count("text/html") >= 6 and kinds.count("application/vnd.plotly.v1+json") == 3
    assert not any(output["output_type"] == "error" for output in shown)

    (tmp_path / "in_file.py").write_text(source + LOAD)
    (tmp_path / "files.py").write_text(FILES.replace("{numbers}", NUMBERS.strip().replace("\n", "\n    ")))
    done = subprocess.run([sys.executable, "files.py"], cwd=tmp_path, text=True, stdout=subprocess.PIPE, check=True)
    attacked = numbers.pop("attacked")
    assert numbers == json.loads(done.stdout.splitlines()[-1])
    assert attacked == pytest.approx(numbers["worst"][1])


def test_wrong_use_is_one_line_in_a_notebook():
    code = "import easycoreset as ec; ec.score(data='digits', epochs=0, out='x')"
    ran = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=nocolor", "-c", code], capture_output=True, text=True
    )
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("UsageError: epochs"), lines
