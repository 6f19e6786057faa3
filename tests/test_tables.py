"""The tables: every entry stands where it belongs, and what was not run says so."""

import json

import pytest

from lfbm_jax import tables
from lfbm_jax.errors import UserError
from lfbm_jax.reports import paper
from tests.builders import experiment


def make_run(folder, name, figures, seed=0, **changes):
    """A work directory with a config of configs/<name>.py and reports of these figures."""
    config = experiment(name).to_dict()
    config["seed"] = seed
    for key, value in changes.items():
        section, _, field = key.partition("__")
        config.setdefault(section, {})[field] = value
    (folder / "reports").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for task, values in figures.items():
        report = {"task": task, "step": 7, "figures": values, "paper": None, "setup": {}}
        (folder / "reports" / f"{task}.json").write_text(json.dumps(report))


def rows(lines):
    """The table's rows by their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {first: rest for first, *rest in cells}


def test_without_runs_the_tables_hold_the_papers_numbers(tmp_path):
    assert rows(tables.table_3([]))["ours"] == ["-", "not run", "not run"]
    assert rows(tables.table_4([]))["LFBM-MCMC, ours"] == ["not run"] * 5
    assert rows(tables.table_4([]))["LFBM-MCMC, paper"][1] == "0.812 ± 0.007"
    table_5 = rows(tables.tables_5_and_6([])[:14])
    assert table_5["glow, paper, CelebA"][-1] == "0.0864"
    svhn = tables.table_2([])
    svhn = rows(svhn[: svhn.index("### CIFAR-10")])
    assert svhn["LFBM-MCMC"] == ["0.005", "not run", "23.64", "not run"]
    assert svhn["ABP"] == ["-", "not run", "49.71", "not run"]
    with pytest.raises(UserError, match="no run there"):
        tables.write([tmp_path], tmp_path / "tables.md")


def test_table_2_finds_method_and_data_and_averages_seeds(tmp_path):
    for seed, (mse, fid) in enumerate([(0.006, 30.0), (0.008, None)]):
        figures = {"reconstruct": {"mse": mse}, "generate": {} if fid is None else {"fid": fid}}
        make_run(tmp_path / "svhn" / str(seed), "svhn", figures, seed)
    make_run(tmp_path / "lebm", "svhn", {"reconstruct": {"mse": 0.5}}, prior__name="energy")
    make_run(tmp_path / "rae", "svhn", {"reconstruct": {"mse": 0.75}}, baseline__name="rae")
    plain = {"baseline__name": "rae", "baseline__regularizer": "none"}
    make_run(tmp_path / "ae", "svhn", {"reconstruct": {"mse": 9}}, **plain)
    deep = {"baseline__name": "sri", "baseline__num_layers": 5}
    make_run(tmp_path / "sri", "svhn", {"reconstruct": {"mse": 0.125}}, **deep)
    make_run(tmp_path / "digits", "digits", {"reconstruct": {"mse": 0.25}})
    make_run(tmp_path / "other", "svhn", {"reconstruct": {"mse": 9}}, data__exclude_labels=[1])
    make_run(tmp_path / "torn", "svhn", {"reconstruct": {"mse": 9}}, data__mask="random_box:4")
    lines = tables.table_2(tables.find_runs(tmp_path))
    svhn = rows(lines[: lines.index("### CIFAR-10")])
    assert svhn["LFBM-MCMC"] == ["0.005", "0.007 ± 0.0014 (2)", "23.64", "30 (1)"]
    assert svhn["LEBM"] == ["0.008", "0.5 (1)", "29.44", "not run"]
    assert svhn["SRI (L=5)"] == ["0.011", "0.125 (1)", "35.23", "not run"]
    assert svhn["RAE"] == ["0.014", "0.75 (1)", "40.02", "not run"]
    digits = rows(lines[lines.index("### digits") :])
    assert digits["LFBM-MCMC"] == ["-", "0.25 (1)", "-", "not run"]
    assert "VAE" not in digits


def test_table_3(tmp_path):
    make_run(tmp_path / "a", "mnist", {"inpaint": {"mse_hidden": 0.125}})
    table = rows(tables.table_3(tables.find_runs(tmp_path)))
    assert table["LFBM-MCMC, ours"] == ["MNIST", "not run", "0.125 (1)"]
    assert table["LFBM-VAE, paper"] == ["CelebA", "0.0562", "0.2074"]


def test_table_4_by_digit_with_both_protocols(tmp_path):
    for digit, seed, auprc in ((4, 0, 0.5), (4, 1, 0.7), (3, 0, 0.25)):
        figures = {"num_images": 2000, "auprc": auprc}
        figures |= {"base_rate": 0.1, "auprc_80_20": 0.9, "base_rate_80_20": 0.36}
        folder = tmp_path / f"digit-{digit}" / f"seed-{seed}"
        changes = {"data__exclude_labels": [digit]}
        make_run(folder, "mnist_anomaly", {"anomaly": figures}, seed, **changes)
    lines = tables.table_4(tables.find_runs(tmp_path))
    table = rows(lines)
    assert table["held-out digit"] == ["1", "4", "5", "7", "9", "3"]
    ours = ["not run", "0.6 ± 0.14 (2)", "not run", "not run", "not run", "0.25 (1)"]
    assert table["LFBM-MCMC, ours"] == ours
    assert table["LFBM-MCMC, images scored"][1] == "2000 ± 0 (2)"
    assert table["LFBM-MCMC, that base rate"][1] == "0.36 ± 0 (2)"
    assert table["VAE, paper"] == ["0.063", "0.337", "0.325", "0.148", "0.104", "-"]


@pytest.mark.parametrize(
    ("mask", "side", "column"),
    [
        ("salt_and_pepper:0.5", 28, 1),
        ("random_box:20", 64, 3),
        ("random_box:20", 32, 5),
        ("random_box:13", 28, 4),
        ("random_box:8", 32, None),
        ("salt_and_pepper:0.6", 32, None),
        ("center_box:20", 64, None),
    ],
)
def test_tables_5_and_6_by_occlusion(tmp_path, mask, side, column):
    figures = {"recover": {"mse_hidden": 0.5}, "generate": {"fid": 50}}
    changes = {"prior__name": "gaussian", "data__mask": mask, "data__image_size": side}
    make_run(tmp_path / "run", "mnist", figures, **changes)
    lines = tables.tables_5_and_6(tables.find_runs(tmp_path))
    middle = lines.index("## Table 6: unsupervised recovery, FID")
    for part, value in ((lines[:middle], "0.5 (1)"), (lines[middle:], "50 (1)")):
        expected = ["not run"] * len(paper.OCCLUSIONS)
        if column is not None:
            expected[column] = value
        assert rows(part)["gaussian, ours, MNIST"] == expected
        assert rows(part)["glow, ours, -"] == ["not run"] * len(paper.OCCLUSIONS)


def test_file_has_every_table_and_lists_the_runs(tmp_path):
    make_run(tmp_path / "runs" / "a", "svhn", {"reconstruct": {"mse": 0.5}}, seed=3)
    path = tables.write([tmp_path / "runs"], tmp_path / "new" / "tables.md")
    text = path.read_text()
    assert all(f"## Table {number}" in text for number in range(2, 7))
    assert rows(text.splitlines())[str(tmp_path / "runs" / "a")][:4] == [
        "SVHN", "-", "LFBM-MCMC", "3",
    ]  # fmt: skip
    (tmp_path / "runs" / "a" / "reports" / "reconstruct.json").write_text("{")
    with pytest.raises(UserError, match=r"reconstruct\.json is damaged"):
        tables.write([tmp_path / "runs"], path)


def test_command_line(run_python, tmp_path):
    make_run(tmp_path / "a", "svhn", {"reconstruct": {"mse": 0.5}})
    command = ["-m", "lfbm_jax.tables", f"--out={tmp_path / 't.md'}"]
    done = run_python([*command, tmp_path / "a"])
    assert (tmp_path / "t.md").read_text() in done.stdout
    none = run_python(command, check=False)
    assert none.returncode == 2
    assert none.stderr.strip().count("\n") == 0 and "no runs given" in none.stderr


def test_papers_figures_by_task():
    assert paper.table_2("SVHN") == {"reconstruct": {"mse": 0.005}, "generate": {"fid": 23.64}}
    assert paper.table_2("SVHN", "ABP") == {"generate": {"fid": 49.71}}
    assert paper.table_2("CIFAR-10", "SRI") == {}
    assert paper.table_4(9) == {"anomaly": {"auprc": 0.514}}
    assert paper.table_4(1, "LEBM") == {"anomaly": {"auprc": 0.336}}
    assert paper.table_4(0) == {}
