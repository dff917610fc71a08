"""Objects in place of names: the same tables as through files, bit for bit, and clear errors for what does not fit."""

import copy
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import easycoreset as ec
from easycoreset.attacks.fgsm import FGSM
from easycoreset.attacks.pgd import PGD
from easycoreset.data.in_memory import name_data
from easycoreset.models.in_memory import name_model
from easycoreset.object_digests import digest_object
from easycoreset.objectives.adversarial import PGDTraining
from easycoreset.objectives.standard import Standard
from easycoreset.options import CompareOptions, EvaluateOptions, ScoreOptions
from easycoreset.python_objects import find_object
from easycoreset.workflow import pools

pytestmark = pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")  # a fifth is held out
USER_CODE = """
import numpy as np
import torch
from torch import nn
from easycoreset import Coreset
from sklearn.datasets import load_digits


def arrays():
    digits = load_digits()
    return (digits.images[:400] * 15.9375).astype(np.uint8), digits.target[:400]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, padding=1)
        self.linear = nn.Linear(8 * 64, 10)

    def forward(self, x):
        return self.linear(torch.relu(self.convolution(x)).flatten(1))


def easiest(scores, count, seed):
    return Coreset.from_order(np.argsort(scores["aign"])[:count], scores)


def flip(model, x, y, index=None, *, eps):
    signs = torch.ones_like(x)
    signs[..., ::2] = -1
    return (x + eps * signs).clamp(0, 1)
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A user's module in a folder of Python's path, and its data as an .npz file."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "in_hand.py").write_text(USER_CODE)
    sys.path.insert(0, str(folder))
    import in_hand

    x, y = in_hand.arrays()
    np.savez(folder / "data.npz", x=x, y=y)
    yield in_hand, folder
    sys.path.remove(str(folder))


def tables(folder):
    return {file.name: pq.read_table(file) for file in sorted(folder.glob("*.parquet"))}


def assert_same(one, other):
    assert one.keys() == other.keys() and one
    for name, table in one.items():
        assert table.replace_schema_metadata().equals(other[name].replace_schema_metadata()), name


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
@pytest.mark.slow
def test_every_function_gives_the_same_tables_with_files_and_with_objects(mine, tmp_path):
    module, folder = mine
    files = {"data": str(folder / "data.npz"), "model": "in_hand:Net"}
    objects = {"data": module.arrays(), "model": module.Net}
    scored = {"epochs": 2, "save_features": "clean", "hardness": ("cheap",), "objective": "standard"}
    by_file = ec.score(**files, **scored, out=tmp_path / "s")
    by_object = ec.score(**objects, **scored | {"objective": Standard()}, out=tmp_path / "so")
    assert_same(tables(tmp_path / "s"), tables(tmp_path / "so"))
    for method, given in (("in_hand:easiest", module.easiest), ("herding", "herding")):
        name = method.replace(":", "")
        chosen = ec.select(scores=tmp_path / "s", method=method, fraction=0.4, out=tmp_path / f"{name}.parquet")
        same = ec.select(scores=by_object, method=given, fraction=0.4)
        in_memory = ec.choose(by_file, method=given, fraction=0.4)
        for coreset in (same, in_memory):
            np.testing.assert_array_equal(chosen.keep, coreset.keep)
            np.testing.assert_array_equal(chosen.rank, coreset.rank)
    trained = {"updates": 4, "objective": "pgd-at:steps=1"}
    ec.train(**files, **trained, coreset=tmp_path / "herding.parquet", out=tmp_path / "t")
    network = ec.train(**objects, **trained, coreset=chosen, out=tmp_path / "to")
    for name, value in ec.load_model(tmp_path / "t", model="in_hand:Net").state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    attacked = {"eps": (0.05, 0.1), "attack": ("pgd:steps=2",)}
    ec.evaluate(data=files["data"], weights=tmp_path / "t", model="in_hand:Net", **attacked, out=tmp_path / "e")
    by_hand = attacked | {"attack": (PGD(steps=2),)}
    loaded = ec.load_model(tmp_path / "to", model=module.Net)
    results = [ec.evaluate(data=objects["data"], model=net, **attacked) for net in (network, loaded)]
    ec.evaluate(data=objects["data"], weights=network, **by_hand, out=tmp_path / "eo")
    frame, other = (pq.read_table(tmp_path / name / "predictions.parquet") for name in ("e", "eo"))
    assert frame.equals(other)
    assert all(f"{result}" == f"{results[0]}" for result in results)
    assert not any("trained on" in text for result in results for text in result.warnings)  # of the held-out fifth
    audited = ec.audit(**files, scores=tmp_path / "s", epochs=1, out=tmp_path / "a")
    assert audited.table.equals(ec.audit(**objects, scores=by_object, epochs=1).table)
    assert ec.score(**objects, **scored, out=tmp_path / "so")["aign"].tolist() == by_object["aign"].tolist()  # resumed


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_a_grid_of_objects_is_that_of_files(mine, tmp_path):
    module, folder = mine
    shared = {"fractions": 0.4, "updates": 3, "seeds": 1, "eps": 0.1, "vary": {"score.epochs": 1}, "workers": 0}
    files = {"data": str(folder / "data.npz"), "model": "in_hand:Net", "methods": ["random", "in_hand:easiest"]}
    objects = {"data": module.arrays(), "model": module.Net, "methods": ["random", module.easiest]}
    one = ec.compare(**files, **shared, attack="fgsm", out=tmp_path / "g")
    other = ec.compare(**objects, **shared, attack=["fgsm"])
    names = ["fraction", "seed", "kept", "clean", "accuracy", "eps", "samples"]
    assert one.results.select(names).equals(other.results.select(names)) and other.results.num_rows == 4


def test_a_resumed_run_refuses_other_objects(mine, tmp_path):
    module, _ = mine
    x, y = module.arrays()
    given = {"model": module.Net, "updates": 2, "out": tmp_path / "t"}
    ec.train(data=(x, y), **given)
    ec.train(data=(x.copy(), y.copy()), **given)  # the same content
    changed = x.copy()
    changed[7, 0, 0] ^= 1
    with pytest.raises(ec.UsageError, match="data="):
        ec.train(data=(changed, y), **given)
    with pytest.raises(ec.UsageError, match="model"):
        ec.train(data=(x, y), **given | {"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))})


def test_a_module_begins_with_its_weights_and_is_left_alone(mine, tmp_path):
    module, _ = mine
    network = module.Net().train()
    before = copy.deepcopy(network.state_dict())
    trained = ec.train(data=module.arrays(), model=network, updates=1, lr=0.0, weight_decay=0.0)
    for name, value in before.items():
        assert torch.equal(value, network.state_dict()[name]) and torch.equal(value, trained.state_dict()[name])
    assert network.training and all(p.grad is None for p in network.parameters())


def test_attack_gives_what_the_attack_gives(mine):
    module, _ = mine
    x, y = module.arrays()
    images, labels = torch.from_numpy(x[:30, None]).float() / 255, torch.from_numpy(y[:30])
    network = module.Net().train()
    expected = PGD(eps=0.1, steps=3, seed=5)(network.eval(), images, labels, torch.arange(30))
    network.train()
    with pytest.raises(ec.UsageError, match="eps is given twice"):
        ec.attack(network, images, labels, PGD(eps=0.3), eps=0.1)
    of_object = ec.attack(network, images, labels, PGD(eps=0.3, norm="l2", seed=5))
    network.eval()
    assert torch.equal(of_object, PGD(eps=0.3, norm="l2", seed=5)(network, images, labels, torch.arange(30)))
    assert torch.equal(ec.attack(network, images, labels, eps="1/10"), ec.attack(network, images, labels, eps=0.1))
    network.train()
    for given in ("pgd:steps=3", PGD(steps=3), PGD(steps=3, eps=0.1)):
        found = ec.attack(network, images.numpy(), y[:30], given, eps=0.1, seed=5, batch_size=7)
        assert torch.equal(found, expected)
    flipped = ec.attack(network, images, labels, module.flip, eps=0.1)
    assert torch.equal(flipped, module.flip(network, images, labels, eps=0.1))
    assert network.training and all(p.grad is None and p.requires_grad for p in network.parameters())
    for wrong, rule in (
        ({"x": images[0]}, "x"),
        ({"x": images * 255}, r"x.*\[0, 1\]"),
        ({"x": x[:30, None]}, r"x.*255"),
        ({"y": labels.float()}, "y"),
        ({"y": labels[:3]}, "y"),
        ({"attack": lambda model, x, y, index: x}, "attack.*eps"),
        ({"eps": -1.0}, "eps"),
        ({"y": labels + 1}, r"y.*0\.\.9"),
        ({"x": torch.rand(30, 3, 8, 8)}, "model.*float32 images"),
        ({"y": "labels"}, "y"),
        ({"attack": module.flip, "norm": "l2"}, "norm.*linf"),
    ):
        with pytest.raises(ec.UsageError, match=rule):
            ec.attack(network, **{"x": images, "y": labels} | wrong)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        item = self.items[row]
        return item() if callable(item) else item


def test_data_sets_of_every_kind_are_the_same_data(mine):
    module, folder = mine
    x, y = module.arrays()
    fifth = {"train": (x[:300], y[:300]), "test": (x[300:], y[300:])}
    images = torch.from_numpy(x[:, None])
    parts = [TensorDataset(images[:300] / 255, torch.from_numpy(y[:300])), Items([*zip(x[300:], y[300:], strict=True)])]
    pixels = {}
    for name, value in {
        "arrays": ((x[:300], y[:300]), (x[300:], y[300:])),
        "dictionary": fifth,
        "four": (x[:300], y[:300], x[300:], y[300:]),
        "tensors": ((images[:300], torch.from_numpy(y[:300])), (images[300:], torch.from_numpy(y[300:]))),
        "data sets": tuple(parts),
        "function": lambda: fifth,
        "source": ec.open_source(name_data(fifth)),
    }.items():
        source = ec.open_source(name_data(value))
        pixels[name] = {split: part.images.pixels.numpy() for split, part in source.splits.items()}
        assert [part.labels.tolist() for part in source.splits.values()] == [y[:300].tolist(), y[300:].tolist()]
        assert all(np.array_equal(pixels[name][split], pixels["arrays"][split]) for split in ("train", "test")), name
    by_file = ec.open_source(str(folder / "data.npz"))
    assert ec.open_source(name_data((x, y))).splits["train"].fingerprint == by_file.splits["train"].fingerprint


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (Items([(np.zeros((8, 8), np.uint8), 0), (np.zeros((9, 9), np.uint8), 1)]), "one shape.*item 1"),
        (Items([np.zeros((8, 8), np.uint8)] * 2), r"\(image, label\).*item 0"),
        (Items([lambda: (np.random.default_rng().random((8, 8)), 0)] * 3), "another image each time"),
        (Items([]), "empty"),
        (type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})(), "map-style.*Stream"),
        (
            (np.random.default_rng(0).normal(size=(9, 8, 8, 3)).clip(-2.1, 2.6), np.arange(9) % 3),
            r"\[0, 1\].*normalisation.*input_mean",
        ),
        ((np.full((9, 8, 8, 3), 200.0), np.arange(9) % 3), r"\[0, 1\].*255"),
        ((np.zeros((9, 8, 8), np.uint8), np.arange(8)), "same length"),
        ((np.zeros((9, 8, 8), np.uint8), np.arange(9) / 2), "label"),
        (7, "data"),
    ],
)
def test_bad_data(value, rule, tmp_path):
    with pytest.raises(ec.UsageError, match=rule):
        ec.score(data=value, epochs=1, out=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_views_and_lists_are_read_as_they_are(mine):
    module, _ = mine
    x, y = module.arrays()
    rgb = np.stack([x, x // 2, x // 3], -1)
    source = ec.open_source(name_data((rgb[..., ::-1], y, rgb[..., ::-1], y)))
    assert np.array_equal(source.splits["test"].images.pixels.numpy(), rgb[..., ::-1])
    items = [(image, int(label)) for image, label in zip(x[:40], y[:40], strict=True)]
    splits = ec.open_source(name_data(items)).splits
    assert sum(map(len, splits.values())) == 40 and len(splits["train"]) == 30  # about a fifth is held out, by class


def test_a_module_is_judged_as_it_is_and_on_all_that_is_given(mine):
    module, _ = mine
    x, y = module.arrays()
    given = {"attack": ["fgsm"], "eps": 0.1, "checks": "quick"}
    network = ec.train(data=(x, y), model=module.Net, updates=5)
    assert len(ec.evaluate(model=network, data=(x, y), **given).clean.index) == 80  # what was held out of training
    assert len(ec.evaluate(model=network, data=(x[:50], y[:50]), **given).clean.index) == 50
    assert len(ec.evaluate(model=network, data=lambda: (x[:50], y[:50]), **given).clean.index) == 50
    before = ec.evaluate(model=network, data=(x, y), **given).clean.pred
    network.forward = lambda x: -module.Net.forward(network, x)
    with torch.no_grad():
        network.linear.weight.mul_(-1)
        network.linear.bias.mul_(-1)
    del network.forward
    assert not np.array_equal(ec.evaluate(model=network, data=(x, y), **given).clean.pred, before)


def test_labels_that_are_whole_floats_are_numbers_as_in_files(mine):
    module, _ = mine
    x, y = module.arrays()
    one, other = (ec.open_source(name_data((x, labels))) for labels in (y, y.astype(float)))
    np.testing.assert_array_equal(one.splits["train"].labels, other.splits["train"].labels)


def test_evaluated_modules_in_any_state_give_the_same(mine, tmp_path):
    """In train mode, wrapped, in half precision; all of a foreign module's data are evaluated, by the model's classes."""
    module, _ = mine
    x, y = module.arrays()
    few = np.flatnonzero(y != 3)[:40]  # one class does not occur
    network = module.Net()
    given = {"data": (x[few], y[few]), "attack": ["fgsm"], "eps": 0.1, "checks": "quick"}
    expected = ec.evaluate(model=network.eval(), **given)
    clean = network(torch.from_numpy(x[few, None]).float() / 255).argmax(1).numpy()
    assert len(expected.clean.index) == 40 and expected.clean.accuracy == pytest.approx((clean == y[few]).mean())
    half = copy.deepcopy(network).half()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    distributed = nn.parallel.DistributedDataParallel(network)
    torch.distributed.destroy_process_group()
    for other in (network.train(), nn.DataParallel(network), distributed, torch.compile(network, backend="eager")):
        np.testing.assert_array_equal(ec.evaluate(weights=other, **given).clean.pred, expected.clean.pred)
    assert len(ec.evaluate(model=half, **given).clean.index) == 40 and half.linear.weight.dtype == torch.float16
    with pytest.raises(ec.UsageError, match="model"):
        ec.evaluate(model=module.Net, weights=network, **given)
    with pytest.raises(ec.UsageError, match="weights"):
        ec.evaluate(**given)
    with pytest.raises(ec.UsageError, match="model.*7"):
        ec.score(data=(x, y), model=7, epochs=1)


def test_objects_reach_worker_processes_or_the_caller_is_told(mine, tmp_path, monkeypatch):
    module, _ = mine
    given = {"data": module.arrays(), "model": module.Net, "fractions": 0.4, "updates": 2, "seeds": 1, "out": tmp_path}
    pick = lambda scores, count, seed: module.easiest(scores, count, seed)  # noqa: E731
    with pytest.raises(ec.UsageError, match="workers.*0"):
        ec.compare(**given, methods=["random", pick], workers=2)
    with pytest.raises(ec.UsageError, match="on"):
        ec.compare(**given, methods=["random"], on="ray")
    with pytest.raises(ec.UsageError, match="workers"):
        CompareOptions(**given, methods=["random"], workers=-1)
    assert pools.find_unsendable({"a": module.easiest, "b": module.Net}) == ""
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    module.easiest.__module__, home = "__main__", module.easiest.__module__
    assert "notebook" in pools.find_unsendable({"a": module.easiest})
    module.easiest.__module__ = home


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_worker_processes_choose_by_objects(mine, tmp_path):
    module, _ = mine
    given = {"data": module.arrays(), "model": module.Net, "methods": ["random", module.easiest], "attack": ["fgsm"]}
    given |= {"fractions": 0.4, "updates": 2, "seeds": 1, "eps": 0.1, "vary": {"score.epochs": 1}}
    tables = [ec.compare(**given, workers=workers).results for workers in (0, 2)]
    names = ["cell", "method", "accuracy", "clean", "evaluation"]
    assert tables[0].select(names).equals(tables[1].select(names))


def test_left_out_results_go_with_their_object(mine):
    module, _ = mine
    scores = ec.score(data=module.arrays(), model=module.Net, epochs=1, save_features="clean")
    folder = scores.features.filename and __import__("pathlib").Path(scores.features.filename).parent
    assert (folder / "scores.parquet").exists()
    del scores
    assert not folder.exists()


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


SIGN = 1
CODE = """
import functools
from torch import nn
{lines}
class Net(nn.Module):
    {body}
"""


def defined(body, lines=""):
    """A class of a module with this code, as a notebook's cell defines it."""
    space = {"__name__": "a_notebook"}
    exec(CODE.format(body=body, lines=lines), space)
    return space["Net"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f = staticmethod(lambda x: x + 1)", "f = staticmethod(lambda x: x + 2)"),
        ("f = property(lambda self: 1)", "f = property(lambda self: 2)"),
        ("f = functools.lru_cache(lambda self: 1)", "f = functools.lru_cache(lambda self: 2)"),
        ("f = classmethod(lambda cls: [1 for _ in range(3)])", "f = classmethod(lambda cls: [2 for _ in range(3)])"),
        ("f = lambda self: (lambda: 1)()", "f = lambda self: (lambda: 2)()"),
        ("kind = [[1], 2]", "kind = [[1, 2]]"),
        ("class Inner: x = 0", "class Inner: x = 1"),
    ],
)
def test_every_part_of_a_class_counts(one, other):
    assert digest_object(defined(one)) == digest_object(defined(one)) != digest_object(defined(other))


def test_globals_count_where_they_are_read():
    inner = "f = lambda self: [SIGN for _ in range(3)]"
    assert digest_object(defined(inner, "SIGN = 1")) != digest_object(defined(inner, "SIGN = 2"))
    attribute = "f = lambda self, x: x.labels"
    assert digest_object(defined(attribute, "labels = 1")) == digest_object(defined(attribute, "labels = 2"))


def test_modules_count_with_what_is_no_weight():
    def net(**changes):
        torch.manual_seed(0)
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        vars(made).update(changes)
        return name_model(made)

    assert net() == net() and len({net(), net(k=1), net(k=-1), net(act=torch.relu), net(act=torch.tanh)}) == 5
    assert net(mean=torch.zeros(2)) != net(mean=torch.ones(2)) and net(k=Slotted(1)) != net(k=Slotted(2))


def test_digests_are_the_same_in_another_process():
    code = (
        "import numpy as np, torch; from torch import nn; from easycoreset.object_digests import digest_object\n"
        "class Net(nn.Module):\n    size = property(lambda self: 3)\n    def forward(self, x): return {'a', 'b', 'c'}\n"
        "value = [Net, nn.Linear, {'x', 'y', 'z'}, np.random.default_rng(3), np.float32(2), torch.ones(2).bfloat16()]\n"
        "print(digest_object(value))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout.strip()) == 64


def test_digests_follow_content():
    def add(amount):
        return lambda x: x + amount

    assert digest_object(add(1)) == digest_object(add(1)) != digest_object(add(2))
    assert digest_object(np.arange(3)) != digest_object(np.arange(3.0))
    assert digest_object(PGD(steps=2)) != digest_object(PGD(steps=3))
    assert digest_object(nn.Linear) != digest_object(nn.Conv2d)
    a, b = (type("Net", (nn.Module,), {"forward": function}) for function in (lambda s, x: x, lambda s, x: x + 1))
    assert digest_object(a) != digest_object(b)


def test_options_hold_names(mine, tmp_path):
    module, _ = mine
    options = ScoreOptions(data=module.arrays(), model=module.Net, epochs=1, out=tmp_path)
    assert options.data.startswith("python.arrays:x") and options.model.startswith("python.Net:x")
    assert find_object("model", options.model) is module.Net
    with pytest.raises(ec.UsageError, match="again"):
        find_object("model", "python.Net:x0123456789abcdef")
    assert EvaluateOptions(data="digits", weights=module.Net(), out=tmp_path).model.startswith("python.Net:x")


def test_images_in_memory_are_not_copied():
    """Bytes as [N,C,H,W], of which a data set is made: what is allocated is less than a quarter of the images."""
    x = np.random.default_rng(0).integers(0, 256, (16_000, 3, 32, 32), np.uint8)
    y = np.arange(16_000) % 10
    tracemalloc.start()
    source = ec.open_source(name_data(((x, y), (x[:100], y[:100]))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pixels = source.splits["train"].images.pixels
    assert np.shares_memory(pixels.numpy(), x) and peak < 0.25 * x.nbytes
    batch = next(source.splits["train"].batches(np.arange(5), 5))
    assert torch.equal(batch.x, torch.from_numpy(x[:5]).float() / 255)


def test_signatures_and_help_say_how_functions_are_called():
    import inspect

    text = ec.score.__doc__
    assert text.index("\n\nArgs:\n    ") < text.index("\n\nRaises:") and "\n    data: A named data set" in text
    assert "data set" in str(inspect.signature(ec.score).parameters["data"])
    with pytest.raises(TypeError, match=r"score\(\) takes its options by name.*score\(data=\.\.\.\)"):
        ec.score("digits")
    with pytest.raises(TypeError, match="'dta'.*'data'"):
        ec.score(dta="digits")


def test_a_users_method_that_fails_is_named(scored):
    def broken(scores, count, seed):
        raise KeyError("no such thing")

    with pytest.raises(ec.UsageError, match=r"method 'python\.broken:x.*no such thing"):
        ec.choose(ec.Scores.read(scored), method=broken, fraction=0.5)


@pytest.mark.parametrize(
    ("order", "weight", "rule"),
    [
        ([0, -1], None, "order.*0.."),
        ([0, 10**6], None, "order.*0.."),
        ([0, 0], None, "order.*once"),
        ([0.0, 1.0], None, "order.*integers"),
        ([0, 1], [1.0, np.nan], "weight.*finite"),
        ([0, 1], [1.0], "weight"),
        ([0, 1], [0.0, 0.0], "weight"),
    ],
)
def test_orders_that_are_no_coreset(scored, order, weight, rule):
    with pytest.raises(ec.UsageError, match=rule):
        ec.Coreset.from_order(np.array(order), ec.Scores.read(scored), None if weight is None else np.array(weight))


@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
@pytest.mark.slow
def test_trained_modules_and_results_in_place_of_folders(mine, tmp_path):
    module, folder = mine
    x, y = module.arrays()
    files = {"data": str(folder / "data.npz"), "model": "in_hand:Net"}
    network = ec.train(data=(x, y), model=module.Net, updates=3)
    ec.train(**files, updates=3, out=tmp_path / "t")
    by_file = ec.predict(data=files["data"], weights=tmp_path / "t", model="in_hand:Net", out=tmp_path / "p")
    items = [torch.from_numpy(image)[None] / 255 for image in x]
    for images in (
        x,
        torch.from_numpy(x),
        (x, y),
        (x, np.full(len(x), np.nan)),
        items,
        list(zip(items, y, strict=True)),
    ):
        assert ec.predict(data=images, weights=network).equals(by_file)
    assert ec.predict(data=x[:1], model=network).equals(by_file.slice(0, 1))  # of one class, or none
    for wrong, rule in (
        ({"data": x, "weights": module.Net()}, r"train or load_model.*Net"),
        ({"data": x, "weights": 5}, "weights.*int"),
        ({"data": x[..., :7], "weights": network}, r"shape \(1, 8, 8\).*\(1, 8, 7\)"),
        ({"data": ((x, y), (x, y)), "weights": network}, "images.*or their folder"),
        ({"data": ec.open_source("digits"), "weights": network}, "images.*or their folder"),
    ):
        with pytest.raises(ec.UsageError, match=rule):
            ec.predict(**wrong)

    again = {"updates": 2, "lr": 0.01}
    ec.train(**files, **again, init=str(tmp_path / "t"), out=tmp_path / "u")
    for init in (network, module.Net()):
        further = ec.train(data=(x, y), model=module.Net, init=init, **again, out=tmp_path / type(init).__name__)
        equal = torch.equal(further.linear.weight, ec.load_model(tmp_path / "u", model=module.Net).linear.weight)
        assert equal == (init is network)
        (tmp_path / "Net").rename(tmp_path / f"used-{equal}")
    ec.train(data=(x, y), model=module.Net, init=network, **again, out=tmp_path / "used-True")  # finished: not refused
    with pytest.raises(ec.UsageError, match=r"init must be .*; got 'list'"):
        ec.train(data=(x, y), model=module.Net, init=[1], updates=1)

    scores = ec.score(data=(x, y), model=module.Net, epochs=1)
    ec.score(**files, epochs=1, out=tmp_path / "s")
    coreset = ec.choose(scores, method="easycore", fraction=0.2)
    ec.select(scores=tmp_path / "s", method="easycore", fraction=0.2, out=tmp_path / "c.parquet")
    audit = ec.audit(data=(x, y), model=module.Net, scores=scores, epochs=1)
    ec.audit(**files, scores=tmp_path / "s", epochs=1, out=tmp_path / "a")
    pairs = [(scores, tmp_path / "s"), (coreset, tmp_path / "c.parquet"), (audit, tmp_path / "a")]
    for number, pair in enumerate(pairs):
        tables = [ec.export(source, format="csv", out=tmp_path / f"{number}{k}.csv") for k, source in enumerate(pair)]
        assert tables[0].read_bytes() == tables[1].read_bytes()
    with pytest.raises(ec.UsageError, match=r"source must be .*; got int"):
        ec.export(5, format="csv", out=tmp_path / "5.csv")
    assert (
        "<iframe" in ec.report(out=ec.audit(data=(x, y), scores=scores, epochs=1))._repr_html_()
    )  # whose folder is gone
    assert ec.report(out=scores).path.parent == scores.file.parent
    assert (
        len(scores.plot("aign").layout.images) == 12 and not dataclasses.replace(scores, file=None).plot().layout.images
    )
    for wrong in (coreset, network, 5):
        with pytest.raises(ec.UsageError, match="out must be a folder"):
            ec.report(out=wrong)
    assert audit.plot().data and "What was found" in audit._repr_html_() and {audit}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::easycoreset.EasycoresetWarning")
def test_an_analysis_and_a_run_of_objects_are_those_of_files(mine, tmp_path):
    module, folder = mine
    data = module.arrays()
    files = {"data": str(folder / "data.npz"), "model": "in_hand:Net"}
    scored = [ec.score(**files, epochs=2, out=tmp_path / "s"), ec.score(data=data, model=module.Net, epochs=2)]
    network = ec.train(data=data, model=module.Net, updates=3)
    ec.train(**files, updates=3, out=tmp_path / "t")
    shared = {"epochs": 2, "eps": 0.1, "limit": 50, "margins": 20, "bins": 3, "workers": 0}
    of_files = {"scores": tmp_path / "s", "attacked": tmp_path / "t", "adversarial": "pgd-at:steps=1", "attack": "fgsm"}
    one = ec.analyze(**files, **shared, **of_files, out=tmp_path / "y")
    of_objects = {"scores": scored[1], "attacked": [network], "adversarial": PGDTraining(steps=1), "attack": FGSM()}
    other = ec.analyze(data=data, model=module.Net, **shared, **of_objects)
    assert len(repr(one)) < 400 and "<h4>" in one._repr_html_()
    assert not any("/tmp" in str(row["attacked"]) for row in other["vulnerability"])
    scored[0].write(tmp_path / "s" / "other.parquet")
    with pytest.raises(ec.UsageError, match=r"scores\.parquet"):
        ec.analyze(**files, **shared, **of_files | {"scores": tmp_path / "s" / "other.parquet"}, out=tmp_path / "z")
    for part in ("vulnerability", "margins"):
        rows = [[{**row, "attacked": "", "model": ""} for row in found[part]] for found in (one, other)]
        assert rows[0] == rows[1] and rows[0]
    shared = {"epochs": 2, "limit": 20, "fraction": 0.5, "eps": 0.1, "workers": 0}
    ec.run(**files, **shared, attack="fgsm", out=tmp_path / "r")
    ec.run(data=data, model=module.Net, **shared, attack=FGSM(), out=tmp_path / "ro")
    judged = [f"evaluation/{name}/predictions.parquet" for name in ("coreset", "random", "all")]
    for name in ("scores/scores.parquet", "coreset.parquet", "audit/audit.parquet", *judged):
        one, other = (pq.read_table(tmp_path / folder / name) for folder in ("r", "ro"))
        differing = [column for column in one.column_names if not one[column].equals(other[column])]
        assert one.column_names == other.column_names and not differing, name


PEAK = """
import numpy as np
import torch
import easycoreset as ec

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

def growth(call):
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = status("VmRSS")
    call()
    return (status("VmHWM") - before) / x.nbytes

torch.set_num_threads(1)
x = np.random.default_rng(0).random((50_000, 3, 32, 32), np.float32)
y = np.arange(50_000) % 10
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
ec.score(data=(x[:500], y[:500]), model=net, epochs=1)  # whatever is imported counts here
ec.evaluate(model=net, data=(x[:500], y[:500]), attack="fgsm", eps=0.01)
for data in ((x, y), ((x, y), (x[:300], y[:300]))):
    print(growth(lambda: ec.score(data=data, model=net, epochs=1)))
print(growth(lambda: ec.evaluate(model=net, data=(x, y), attack="fgsm", eps=0.01, checks="quick")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no peak of memory that begins anew")
def test_scoring_and_evaluating_in_memory_copies_no_images():
    """50,000 float images of 3 x 32 x 32 (586 MB): memory grows by less than a quarter of that.

    Freed batches go back to the system at once: glibc's heap may keep them in pieces, as much as all images.
    """
    command = [sys.executable, "-W", "ignore", "-c", PEAK]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=environment
    )
    grown = [float(line) for line in done.stdout.split()]
    assert len(grown) == 3 and max(grown) < 0.25, grown


def test_data_without_a_part_for_testing_say_which_rows_are_theirs(mine):
    module, _ = mine
    x, y = module.arrays()
    with pytest.warns(ec.EasycoresetWarning, match=r"arrays: no test split.*80 samples.*x/399 is row 399"):
        scores = ec.score(data=(x, y), model=module.Net, epochs=1)
    rows = [int(name.removeprefix("x/")) for name in scores.sample_ids]
    assert len(rows) == 320 and np.array_equal(scores.labels, y[rows])


def test_images_of_floats_are_known_as_the_bytes_they_were(mine):
    module, _ = mine
    x, y = module.arrays()
    floats = torch.from_numpy(x[:, None]).float() / 255
    for trained, judged in ((x, floats), (floats, x)):
        network = ec.train(data=((trained, y), (trained[:40], y[:40])), model=module.Net, updates=1)
        result = ec.evaluate(model=network, data=(judged, y), attack="fgsm", eps=0.1, checks="quick")
        assert any("trained on 400 of the 400" in text for text in result.warnings)


def test_splits_of_one_array_share_one_tensor(mine):
    module, _ = mine
    x, y = module.arrays()
    x.flags.writeable = False  # as of a memory map
    source = ec.open_source(name_data((x, y)))
    assert len(pickle.dumps(source)) < 1.5 * x.nbytes + 40_000
    assert torch.equal(
        source.splits["test"].images.pixels[0, ..., 0], torch.from_numpy(np.array(x[rows_of(source)[0]]))
    )


def rows_of(source):
    return [int(name.removeprefix("x/")) for name in source.splits["test"].sample_ids]


def test_names_stand_for_objects_where_people_read(mine, tmp_path):
    module, _ = mine
    shared = {"fractions": 0.4, "updates": 2, "seeds": 2, "eps": 0.1, "vary": {"score.epochs": 1}, "workers": 0}
    found = ec.compare(
        data=module.arrays(), model=module.Net, methods=["random", module.easiest], attack="fgsm", **shared
    )
    page = ec.report(out=found).text
    texts = [page, found._repr_html_(), repr(found)]
    for form, suffix in (("latex", "tex"), ("markdown", "md"), ("csv", "csv")):
        texts.append(ec.export(found, format=form, out=tmp_path / f"t.{suffix}").read_text())
    assert all("easiest" in text for text in texts) and not any(re.search(r":x[0-9a-f]{16}", text) for text in texts)
    assert "easiest" in json.dumps(found.plot().to_dict(), default=str)


def test_data_frames_for_training_and_testing(png_folder):
    pandas = pytest.importorskip("pandas")
    files = sorted(png_folder.glob("*/*.png"))
    frame = pandas.DataFrame({"filepath": [str(file) for file in files], "label": [file.parent.name for file in files]})
    source = ec.open_source(name_data((frame.drop(frame.index[::3]), frame[::3])), image_size=16)
    assert [len(source.splits[name]) for name in ("train", "test")] == [24, 12] and len(source.class_names) == 3


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: ec.score(model="resnet18"), r"score\(\) needs data="),
        (lambda: ec.run(data="digits"), r"run\(\) needs out="),
        (lambda: ec.select(), r"needs scores= and fraction="),
        (lambda: ec.compare(**{"score.epochs": 1}), r"give vary=\{'score.epochs': \.\.\.\}"),
    ],
)
def test_calls_that_lack_or_mistake_an_option(call, rule):
    with pytest.raises(TypeError, match=rule):
        call()


def test_a_measure_that_is_a_function_is_refused(mine, tmp_path):
    module, _ = mine
    with pytest.raises(ec.UsageError, match=r"hardness.*Hardness.*function"):
        ec.score(data=module.arrays(), model=module.Net, epochs=1, hardness=module.arrays)
