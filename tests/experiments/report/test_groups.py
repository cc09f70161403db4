"""Groups: what is pooled, what is compared, and what stands beside."""

import json

import pytest

from experiments.report import groups
from tests.experiments.report import made


def test_widths_and_seeds_of_one_recipe_are_one_group(write, read):
    folders = [
        write(
            f"{algorithm}-{width}-{seed}", algorithm=algorithm, width=width, seed=seed
        )
        for algorithm in ("fp32", "hic")
        for width in (0.5, 1.0)
        for seed in (0, 1)
    ]
    (group,) = groups.group(read(*folders))
    assert (len(group.baseline.runs), len(group.candidate.runs)) == (4, 4)
    assert group.title == "digits, ResNet-8, 30 epochs"
    assert (group.distinction, group.unequal) == ("", [])


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "mnist"},
        {"depth": 14},
        {"epochs": 3},
        {"channel_plan": "textbook"},
        {"shift": "rotate"},
        {"validation": 300},
        {"downscale": 2},
    ],
)
def test_tasks_are_never_pooled(write, read, other):
    folders = [
        write("a"), write("b", algorithm="fp32"),
        write("c", **other), write("d", algorithm="fp32", **other),
    ]  # fmt: skip
    found = groups.group(read(*folders))
    assert [(len(g.baseline.runs), len(g.candidate.runs)) for g in found] == [
        (1, 1),
        (1, 1),
    ]
    assert found[0].title != found[1].title


def test_validation_data_are_called_so(write, read):
    tested, held_out = groups.group(read(write("a"), write("b", validation=300)))
    assert (tested.tested_on, held_out.tested_on) == ("test", "validation")
    assert held_out.title == f"{tested.title}, on validation data"


def test_each_recipe_of_hic_meets_the_same_fp32(write, read):
    folders = [
        write("fp32", algorithm="fp32"),
        write("hic"),
        write("coarse", hic_lsb_bits=6),
        write("exact", converters=False),
    ]
    found = groups.group(read(*folders))
    assert [len(g.candidate.runs) for g in found] == [1, 1, 1]
    assert {g.baseline.runs[0]["folder"] for g in found} == {str(folders[0])}
    assert found[1].distinction == "HIC with converters=True, hic_lsb_bits=6"
    assert found[2].distinction == "HIC with converters=False, hic_lsb_bits=7"


def test_analog_fields_mean_nothing_to_fp32(write, read):
    folders = [
        write("a", algorithm="fp32", seed=0),
        write("b", algorithm="fp32", seed=1),
    ]
    (group,) = groups.group(read(*folders))
    assert len(group.baseline.runs) == 2


def test_fp32_of_equal_digital_fields_goes_first(write, read):
    folders = [
        write("hic", learning_rate=0.1),
        write("same", algorithm="fp32", learning_rate=0.1),
        write("other", algorithm="fp32", learning_rate=0.3),
    ]
    pair, alone = groups.group(read(*folders))
    assert [run["folder"] for run in pair.runs] == [str(folders[1]), str(folders[0])]
    assert (len(alone.baseline.runs), len(alone.candidate.runs)) == (1, 0)
    assert alone.distinction == "FP32 with learning_rate=0.3"
    (unequal,) = groups.group(read(folders[0], folders[2]))
    assert unequal.unequal == ["learning_rate: FP32 0.3, HIC 0.1"]


def test_a_field_that_one_side_did_not_store_is_unequal(write, read):
    hic, fp32 = write("hic"), write("fp32", algorithm="fp32")
    for part, name in (("train", "shift"), ("recipe", "warmup")):
        stored = json.loads((fp32 / "config.json").read_text())
        del stored[part][name]
        (fp32 / "config.json").write_text(json.dumps(stored))
    (group,) = groups.group(read(hic, fp32))  # There were no shifts.
    assert sorted(group.unequal) == [
        "shift: FP32 not stored, HIC none",
        "warmup: FP32 not stored, HIC 0.05",
    ]


def test_fields_in_which_runs_differ(write, read):
    old = write("old", seed=1)
    stored = json.loads((old / "config.json").read_text())
    del stored["crossbar"]["adc_bits"]
    (old / "config.json").write_text(json.dumps(stored))
    fp32 = write("fp32", algorithm="fp32")
    found = read(write("a", hic_lsb_bits=6), old, fp32)
    assert dict(groups.differing_fields(found)) == {
        "algorithm": [("fp32", 1), ("hic", 2)],
        "seed": [("0", 2), ("1", 1)],
        "hic_lsb_bits": [("6", 1), ("7", 1)],
        "crossbar_adc_bits": [("8", 1), ("not stored", 1)],
    }
    assert len(groups.group(found)) == 2


def test_two_algorithms_on_devices_are_never_pooled(write, read):
    """Six runs of two algorithms are three seeds of each."""
    folders = [
        write(f"{name}-{seed}", seed=seed, stored={"algorithm": name})
        for name in ("hic", "pulsed_sgd")
        for seed in range(3)
    ]
    (group,) = groups.group(read(*folders))
    assert [(r.algorithm, len(r.runs)) for r in group.recipes] == [
        ("hic", 3), ("pulsed_sgd", 3),
    ]  # fmt: skip
    hic, other = group.recipes
    assert (hic.name, other.name) == ("HIC", "pulsed SGD")
    assert hic.look != other.look
    assert group.distinction == ""


def test_recipes_of_another_algorithm_are_told_apart(write, read):
    folders = [
        write("fp32", algorithm="fp32"),
        write("hic"),
        *(
            write(f"{bits}-{seed}", seed=seed, hic_lsb_bits=bits,
                  stored={"algorithm": "my_rule"})
            for bits in (5, 6)
            for seed in range(2)
        ),
    ]  # fmt: skip
    (group,) = groups.group(read(*folders))
    assert [(r.label, r.name, r.file, len(r.runs)) for r in group.recipes] == [
        ("fp32", "FP32", "fp32", 1),
        ("hic", "HIC", "hic", 1),
        ("my_rule 1", "my rule 1", "my_rule1", 2),
        ("my_rule 2", "my rule 2", "my_rule2", 2),
    ]
    assert group.distinction == (
        "my rule 1 with my_rule_lsb_bits=5; my rule 2 with my_rule_lsb_bits=6"
    )
    assert len({recipe.look for recipe in group.recipes}) == 4


def test_any_pair_is_compared(write, read):
    """What is neither baseline nor candidate stands beside them."""
    folders = [
        write("fp32", algorithm="fp32"),
        write("hic"),
        write("other", stored={"algorithm": "volatile"}),
        write("unequal", learning_rate=0.3, stored={"algorithm": "volatile"}),
    ]
    equal, unequal = groups.group(read(*folders), "hic", "volatile")
    for group, folder in ((equal, folders[2]), (unequal, folders[3])):
        assert [run["folder"] for run in group.candidate.runs] == [str(folder)]
        assert [run["folder"] for run in group.baseline.runs] == [str(folders[1])]
    assert [recipe.algorithm for recipe in equal.others] == ["fp32"]
    assert (unequal.others, equal.unequal) == ((), [])
    assert unequal.unequal == ["learning_rate: HIC 0.2, volatile cells 0.3"]
    assert groups.group(read(folders[0]), "hic", "volatile")[0].others


def test_what_two_algorithms_have_in_common_is_compared(write, read):
    folders = [write("hic"), write("mp", algorithm="mixed_precision",
                                   mixed_precision_refresh_every=20)]  # fmt: skip
    (group,) = groups.group(read(*folders), "hic", "mixed_precision")
    assert group.unequal == [
        "spec.refresh_every: HIC 10, mixed precision 20",
    ]


def test_an_algorithm_beside_is_in_every_group_that_it_fits(write, read):
    folders = [
        write("fp32", algorithm="fp32"),
        write("hic"),
        write("coarse", hic_lsb_bits=6),
        write("fits", stored={"algorithm": "volatile"}),
        write("fits none", learning_rate=0.3, stored={"algorithm": "volatile"}),
    ]
    first, second = groups.group(read(*folders))
    for group in (first, second):
        beside = [run["folder"] for recipe in group.others for run in recipe.runs]
        assert beside == [str(folders[3]), str(folders[4])]
    assert first.file("x", first.candidate) == "group1_x"
    assert second.file("x", second.others[1]) == "group2_volatile2_x"


def test_what_fits_the_baseline_alone_stands_beside_its_pair(write, read):
    """Such as FP32 rounded to few bits, where HIC has digital fields of its own."""
    folders = [
        write("fp32", algorithm="fp32", weight_decay=1e-3),
        write("hic", weight_decay=0.0),
        write(
            "int4", algorithm="fp32", weight_decay=1e-3, stored={"algorithm": "int4"}
        ),
    ]
    (group,) = groups.group(read(*folders))
    assert [recipe.name for recipe in group.recipes] == [
        "FP32",
        "HIC",
        "FP32 rounded to int4",
    ]


def test_names_of_files_lead_nowhere_else():
    recipe = made.recipe([made.run("../../a rule/$x_$")])
    assert recipe.file == ".._.._a_rule_x__"
    assert recipe.name == "../../a rule/$x $"
