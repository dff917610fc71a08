"""The runner: a second run does only what is missing, workers that die, steps that fail."""

import os
import shutil
import signal

import pyarrow.parquet as pq
import pytest
import torch
from grids import done, stamps

from easycoreset import UsageError
from easycoreset.errors import GridError
from easycoreset.options import CompareOptions, RunnerOptions
from easycoreset.workflow import estimate as estimating
from easycoreset.workflow import pools, runner
from easycoreset.workflow.comparing import plan_comparison, run_comparison
from easycoreset.workflow.estimate import estimate
from easycoreset.workflow.worker import Machine, run_step
from support.messages import named

VOLATILE = ("seconds", "selection_seconds", "selection_mb")


def tiny(out, **changes):
    values = {
        "data": "digits",
        "model": "digits-cnn",
        "methods": ("easycore", "random"),
        "controls": "none",
        "fractions": 0.3,
        "updates": 10,
        "seeds": 1,
        "attack": ("pgd:steps=2", "fgsm"),
        "eps": 0.1,
        "limit": 60,
        "vary": {"score.epochs": 2},
        "out": out,
    }
    return CompareOptions(**(values | changes))


def die_once(scores, count, seed):
    """A selector whose process is killed the first time it is called."""
    from tests.support.factories import first_rows

    marker = os.environ["DIE_ONCE"]
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return first_rows(scores, count, seed)


def lose_the_gpu_once(scores, count, seed):
    """A selector in whose process the GPU fails the first time it is called."""
    from tests.support.factories import first_rows

    marker = os.environ["DIE_ONCE"] + "-gpu"
    if os.environ.get("LOST") == str(os.getpid()):
        raise AssertionError("a process goes on after its GPU failed")
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.environ["LOST"] = str(os.getpid())
        raise RuntimeError("CUDA error: unspecified launch failure")
    return first_rows(scores, count, seed)


def die_always(scores, count, seed):
    """A selector whose process is always killed."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_second_run_does_only_what_is_missing(tmp_path):
    first = run_comparison(tiny(tmp_path, seeds=2, workers=2))
    assert first.num_rows == 2 * 2 * 3  # methods x seeds x (two attacks and the worst of both)
    before = stamps(tmp_path)
    counts = {kind: done(tmp_path, kind) for kind in ("score", "select", "train", "evaluate")}
    assert counts == {"score": 2, "select": 4, "train": 4, "evaluate": 8}
    (gone, *_) = (tmp_path / "steps").glob("evaluate-*")
    shutil.rmtree(gone)
    second = run_comparison(tiny(tmp_path, seeds=2, workers=1))
    after = stamps(tmp_path)
    assert {name for name, stamp in after.items() if before[name] != stamp} == {gone.name}
    same = [name for name in first.column_names if name not in VOLATILE]
    assert first.select(same).equals(second.select(same))
    assert pq.read_table(tmp_path / "results.parquet").select(same).equals(second.select(same))


@pytest.mark.slow
def test_a_failed_step_stops_no_other_and_is_tried_again(tmp_path):
    module = "tests.support.factories:"
    bad = tiny(tmp_path, methods=("random", f"{module}fails"), workers=1)
    for _ in range(2):
        with pytest.raises(GridError, match=rf"4 of 9 steps\b.*choosing {module}fails\b.*\b0\.3, standard\b"):
            run_comparison(bad)
        assert done(tmp_path, "train") == 1 and done(tmp_path, "evaluate") == 2
        assert set(pq.read_table(tmp_path / "results.parquet")["method"].to_pylist()) == {"random"}


@pytest.mark.slow
def test_a_worker_that_dies_is_retried(tmp_path, monkeypatch):
    monkeypatch.setenv("DIE_ONCE", str(tmp_path / "marker"))
    once, lost, always = (
        f"tests.workflow.test_runner:{how}" for how in ("die_once", "lose_the_gpu_once", "die_always")
    )
    results = run_comparison(tiny(tmp_path / "run", methods=("random", once, lost), workers=2))
    assert set(results["method"].to_pylist()) == {"random", once, lost}
    with pytest.raises(GridError, match=r"4 of \d+ steps\b.*\bworker\b"):
        run_comparison(tiny(tmp_path / "dead", methods=("random", always, "easycore", "hardest"), workers=2))
    assert done(tmp_path / "dead", "train") == 3  # the others are done


def test_what_depends_on_a_failed_step_names_it(tmp_path):
    plan = plan_comparison(tiny(tmp_path))
    scoring = next(cell.steps["score"] for cell in plan.cells if "score" in cell.steps)
    state = runner.RunState(waiting=[scoring], unfinished={scoring.key})
    state.fail(state.waiting.pop(), "no reason")
    state.waiting = [step for step in plan.targets if step.kind == "train"]
    first = runner._next_step(state, [], 1)
    assert first is not None and not state.waiting[1:]
    chosen = plan.cells[0].steps["select"]
    state.waiting, state.unfinished = [chosen], {chosen.key}
    assert runner._next_step(state, [], 1) is None
    assert state.failed[chosen.key][1] == f"its input failed: {scoring.title}"


def test_an_interrupted_evaluation_loses_no_other(tmp_path, monkeypatch):
    """What the table's attacks found stays, whenever the strong one is cut off."""
    import easycoreset.evaluation as evaluation

    plan = plan_comparison(tiny(tmp_path, methods=("random",), attack=("fgsm",), strong=("pgd:steps=3@20",)))
    (cell,) = plan.cells
    machine = Machine(tmp_path, "cpu")
    evaluate = evaluation.evaluate

    def cut_off(**options):
        if options["attack"] == ("pgd:steps=3",):
            raise KeyboardInterrupt
        return evaluate(**options)

    monkeypatch.setattr(evaluation, "evaluate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        for step in runner.with_inputs(plan.targets):
            run_step(step, machine)
    before = stamps(tmp_path)
    assert sorted(name.partition("-")[0] for name in before) == ["evaluate", "select", "train"]
    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    assert run_step(cell.evaluations[1][0], machine).status == "done"
    outcomes = pq.read_table(cell.evaluations[1][0].folder(tmp_path) / "predictions.parquet")
    assert outcomes["attack"].unique().to_pylist() == ["clean", "pgd:steps=3"] and outcomes.num_rows == 40
    assert {name: stamps(tmp_path)[name] for name in before} == before


def test_workers_are_told_of_the_machine(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runner, "open_pool", lambda *given: seen.append(given) or 1 / 0)
    monkeypatch.setattr(runner, "check_pool", lambda on: None)
    with pytest.raises(ZeroDivisionError):
        run_comparison(tiny(tmp_path, workers=3, device="cpu", num_workers=7, on="ray"))
    ((options, *rest, steps),) = seen
    assert (options.on, options.workers, *rest) == ("ray", 3, 2, Machine(tmp_path, "cpu", 7, 1)) and steps


@pytest.mark.parametrize(
    ("gpus", "given", "default", "workers"),
    [
        (0, {}, 2, 2),
        (0, {}, 0, 0),
        (0, {"workers": 5}, 2, 5),
        (1, {}, 2, 1),
        (1, {}, 0, 0),
        (1, {"workers_per_gpu": 3}, 0, 3),
        (4, {}, 0, 4),
        (4, {"workers_per_gpu": 2}, 2, 8),
        (4, {"workers_per_gpu": 2, "workers": 3}, 2, 3),
    ],
)
def test_each_gpu_has_a_worker_or_several(gpus, given, default, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert pools.count_workers(RunnerOptions(out=tmp_path, **given), default, "auto") == workers
    assert pools.count_gpus("cpu") == 0


def test_workers_share_no_gpu_that_is_not_there(tmp_path, cli):
    given = ("compare", "--data", "digits", "--methods", "random", "--fractions", 0.5, "--updates", 2)
    ran = cli(*given, "--workers-per-gpu", 2, "--out", tmp_path / "a")
    assert ran.code == 2 and named(ran.err, "workers_per_gpu", "GPU") and not (tmp_path / "a").exists()
    ran = cli(*given, "--compile", "--cuda-graphs", "--out", tmp_path / "a")
    assert ran.code == 2 and named(ran.err, "cuda_graphs", "GPU") and not (tmp_path / "a").exists()


def test_options_of_the_machine_reach_the_steps_and_change_no_name(tmp_path):
    plain = plan_comparison(tiny(tmp_path)).cells[0]
    vary = {"score.epochs": 2, "score.scoring_batch_size": 700, "evaluate.batch_size": 900}
    passed = plan_comparison(tiny(tmp_path, vary=vary, compile=True)).cells[0]
    assert passed.steps["score"].options["scoring_batch_size"] == 700
    assert all(step.options["batch_size"] == 900 for step, _ in passed.evaluations)
    assert passed.steps["train"].options["compile"] and passed.steps["score"].options["compile"]
    assert [step.key for step in passed.targets] == [step.key for step in plain.targets]
    assert passed.setting == plain.setting and passed.options == plain.options
    with pytest.raises(UsageError, match=r"evaluate\.batch_size.*nothing"):
        plan_comparison(tiny(tmp_path, vary={"score.epochs": 2, "evaluate.batch_size": (300, 900)}))


def test_evaluations_that_climb_in_bf16_are_others(tmp_path, monkeypatch):
    def keys(vary=None):
        (cell,) = plan_comparison(tiny(tmp_path, methods="random", vary=vary or {}, precision="fp32")).cells
        return [step.key for step, _ in cell.evaluations], cell.options

    here = keys()
    assert keys({"evaluate.attack_precision": "fp32"}) == here
    assert keys({"evaluate.attack_precision": "bf16"})[1] == {"evaluate.attack_precision": "bf16"}
    monkeypatch.setattr("easycoreset.workflow.inputs.use_autocast", lambda precision, device: True)
    on_a_gpu = keys()
    assert not set(on_a_gpu[0]) & set(here[0]) and on_a_gpu == keys({"evaluate.attack_precision": "bf16"})
    assert keys({"evaluate.attack_precision": "fp32"})[0] == here[0]


def test_workers_that_share_a_processor_are_not_counted_twice(tmp_path, monkeypatch):
    """The steps are timed once: the seconds of a busy machine vary from one timing to the next."""
    targets = plan_comparison(tiny(tmp_path, seeds=4)).targets
    time_steps, facts = estimating._time_steps, {}

    def time_once(step, *rest):
        name = step.options.get("objective")
        facts[name] = facts.get(name) or time_steps(step, *rest)
        return facts[name]

    monkeypatch.setattr(estimating, "_time_steps", time_once)
    seconds = {n: estimate(targets, tmp_path, "cpu", n, 2)["seconds"] for n in (1, 2, 8)}
    assert seconds[1] == pytest.approx(2 * seconds[2], abs=0.11) and seconds[8] == seconds[2] > 0


@pytest.mark.slow
def test_weights_that_were_discarded_are_trained_again(tmp_path, cli, inline):
    out = tmp_path / "grid"
    run_comparison(tiny(out, discard_weights=True, workers=1))
    assert not list(out.glob("steps/train-*/model.safetensors")) and not list(out.glob("steps/score-*/checkpoints/*"))
    before = pq.read_table(out / "results.parquet")
    options = tiny(out, eps=(0.1, 0.2), limit=None, main_eps=None, workers=1)

    told = estimate(plan_comparison(options).targets, out, "cpu", 1)
    assert told["again"] == told["kinds"]["train"] == 2 and told["kinds"]["evaluate"] == 8
    with pytest.raises(UsageError, match="discarded"):
        from easycoreset import evaluate

        folder = next(out.glob("steps/train-*"))
        evaluate(data="digits", weights=folder, attack="fgsm", eps=0.1, out=tmp_path / "x")
    after = run_comparison(options)
    clean = {row["cell"]: row["clean"] for row in after.to_pylist() if row["eps"] == 0.2}
    assert set(clean) == set(before["cell"].to_pylist()) and len(list(out.glob("steps/train-*/model.safetensors"))) == 2
