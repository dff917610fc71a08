"""How long the steps of a plan will take: before, and while they run."""

import re

from easycoreset.workflow.forecast import Forecast
from easycoreset.workflow.steps import Step


def steps(*names):
    return [Step(kind="select", options={"seed": seed}, inputs={}, title=name) for seed, name in enumerate(names)]


def test_what_is_done_corrects_what_is_left():
    first, second, third = steps("first", "second", "third")
    forecast = Forecast({first.key: 1.0, second.key: 2.0, third.key: 3.0})
    assert forecast.seconds == 6 and forecast.describe(first) == " (1 of 3, about 6s left)"
    forecast.end(first, 0.5)
    assert forecast.seconds == 2.5  # half as long as expected: so will the others be
    assert forecast.describe(second) == " (2 of 3, about 2s left)"
    forecast.end(second, None)  # it failed at once
    assert forecast.seconds == 1.5
    forecast.end(third, 9.0)
    assert forecast.seconds == 0
    assert Forecast({}).describe(first) == "" and Forecast({}).seconds == 0


def test_run_says_it_before_and_at_every_step(tmp_path, cli):
    (tmp_path / "wrong.txt").write_text("1\n5\n")
    flags = ["run", "--data", "digits", "--epochs", 1, "--limit", 20, "--attack", "fgsm", "--eps", "0.1"]
    flags += ["--wrong", tmp_path / "wrong.txt"]
    ran = cli(*flags, "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    assert re.search(r"9 of 9 steps are missing, about .+ in all", ran.err)
    said = re.findall(r"step: .+ \((\d) of 9, about .+ left\)", ran.err)
    assert said == [str(number) for number in range(1, 10)]
    dry = cli(*flags, "--seed", 1, "--dry-run", "--json", "--out", tmp_path / "other")
    assert dry.code == 0 and dry.json["seconds"] > 0
