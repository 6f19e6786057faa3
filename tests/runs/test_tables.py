"""The tables: entries are in the right place, runs that differ are apart, gaps say "not run"."""

import json

import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.reports import paper
from lfbm_jax.runs import recorded, tables, workdir
from tests.builders import experiment

LONG = 10**6  # iterations; more than the authors' checkpoints had
SETUP = {
    "svhn": {"split": "test", "fid_reference": "train split, 73257 images (all)"},
    "celeba64": {"split": "validation", "fid_reference": "train split, 162770 images (all)"},
    "celebahq256": {"split": "train", "fid_reference": "train split, 30000 images (all)"},
}
SCORED = {"svhn": 26_032, "celeba64": 19_867}


def make_run(folder, name, figures, seed=0, step=LONG, setup=None, **changes):
    """Makes a work directory with a config of configs/<name>.py and reports of these figures.

    Args:
        name: a config with variants, such as "svhn:lebm".
        figures: figures by task.
        changes: settings to override, with two underscores for a dot.
    """
    name, _, variants = name.partition(":")
    config = experiment(name, variants).copy_and_resolve_references().unlock()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    config.seed = seed
    (folder / "reports").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(workdir.plain(config)))
    for task, values in figures.items():
        values = dict(values)
        if task == "reconstruct" and name in SCORED:
            values.setdefault("num_images", SCORED[name])
        report = {"task": task, "step": step, "figures": values}
        report["setup"] = {"device": "1 x cpu"} | SETUP.get(name, {}) | (setup or {})
        (folder / "reports" / f"{task}.json").write_text(json.dumps(report))


def runs_in(folder):
    return recorded.find_runs([folder])[0]


def section(lines, heading):
    """The cells of each row of a section's table, by the row's first cell."""
    begin = lines.index(f"### {heading}")
    found = {}
    for line in lines[begin + 1 :]:
        if line.startswith("#"):
            break
        if line.startswith("|"):
            first, *rest = [cell.strip() for cell in line.strip("|").split("|")]
            assert first not in found
            found[first] = rest
    return found


def test_without_runs_the_tables_hold_the_papers_numbers(tmp_path):
    assert section(tables.table_3([]), "CelebA")["ours"] == ["not run"] * 2
    (heading,) = [line[4:] for line in tables.table_4([]) if line.startswith("### ")]
    table_4 = section(tables.table_4([]), heading)
    assert table_4["ours"] == ["not run"] * 5
    assert table_4["LFBM-MCMC, paper"][1] == "0.812 ± 0.007"
    table_5 = section(tables.tables_5_and_6([]), "CelebA")
    assert table_5["LFBM-MCMC, paper"][-1] == "0.0864"
    assert table_5["ours"] == ["not run"] * 6
    svhn = section(tables.table_2([]), "SVHN")
    assert svhn["LFBM-MCMC"] == ["0.005", "not run", "23.64", "not run"]
    assert svhn["ABP"] == ["-", "not run", "49.71", "not run"]
    assert list(svhn)[2:] == list(paper.TABLE_2_METHODS)
    assert section(tables.table_11([]), "CelebA")["LFBM-VAE, paper"][2:] == ["5.5", "256", "104"]
    lebm = [line for line in tables.table_13([]) if line.startswith("| LEBM, paper")]
    assert lebm == ["| LEBM, paper | 1,131,001 | - | 49,817,731 | 94.03 |"]
    with pytest.raises(UserError, match="no run there"):
        tables.write([tmp_path], tmp_path / "tables.md")


def test_seeds_are_averaged_beside_the_papers_figures(tmp_path):
    for seed, (mse, fid) in enumerate([(0.006, 30.0), (0.008, None)]):
        figures = {"reconstruct": {"mse": mse}, "generate": {} if fid is None else {"fid": fid}}
        changes = {"data__dir": f"/disk{seed}", "train__log_every": 1 + seed, "tasks": ()}
        make_run(tmp_path / str(seed), "svhn", figures, seed, **changes)
    make_run(tmp_path / "lebm", "svhn:lebm", {"reconstruct": {"mse": 0.5}})
    make_run(tmp_path / "rae", "svhn:rae", {"reconstruct": {"mse": 0.75}})
    make_run(tmp_path / "ae", "svhn:ae", {"reconstruct": {"mse": 9}})
    make_run(tmp_path / "sri", "svhn:sri_l5", {"reconstruct": {"mse": 0.125}})
    make_run(tmp_path / "digits", "digits", {"reconstruct": {"mse": 0.25}})
    make_run(tmp_path / "other", "svhn", {"reconstruct": {"mse": 9}}, data__exclude_labels=(1,))
    make_run(tmp_path / "torn", "svhn", {"reconstruct": {"mse": 9}}, data__mask="random_box:4")
    lines = tables.table_2(runs_in(tmp_path))
    svhn = section(lines, "SVHN")
    assert svhn["LFBM-MCMC"] == ["0.005", "0.007 ± 0.0014 (2)", "23.64", "30 (1)"]
    assert svhn["LEBM"] == ["0.008", "0.5 (1)", "29.44", "not run"]
    assert svhn["SRI (L=5)"] == ["0.011", "0.125 (1)", "35.23", "not run"]
    assert svhn["RAE"] == ["0.014", "0.75 (1)", "40.02", "not run"]
    assert svhn["plain autoencoder"] == ["-", "9 (1)", "-", "not run"]
    assert section(lines, "digits")["LFBM-MCMC"] == ["-", "0.25 (1)", "-", "not run"]
    assert len(section(lines, "digits")) == 3


def test_runs_that_are_unlike_are_rows_that_say_how(tmp_path):
    """Regression: K = 20, K = 100 and d = 2 were averaged in one cell."""
    make_run(tmp_path / "a", "svhn", {"reconstruct": {"mse": 1}})
    make_run(tmp_path / "b", "svhn", {"reconstruct": {"mse": 2}}, inference__num_steps=100)
    make_run(tmp_path / "c", "svhn", {"reconstruct": {"mse": 3}}, model__latent_dim=2)
    svhn = section(tables.table_2(runs_in(tmp_path)), "SVHN")
    ours = {label: cells[:2] for label, cells in svhn.items() if label.startswith("LFBM-MCMC")}
    assert ours == {
        "LFBM-MCMC": ["0.005", "1 (1)"],
        "LFBM-MCMC, inference.num_steps=100": ["-", "2 (1)"],
        "LFBM-MCMC, model.latent_dim=2": ["-", "3 (1)"],
    }


def test_one_unlike_run_leaves_the_papers_row_without_a_figure_of_ours(tmp_path):
    make_run(tmp_path / "a", "svhn", {"reconstruct": {"mse": 1}}, inference__num_steps=100)
    svhn = section(tables.table_2(runs_in(tmp_path)), "SVHN")
    assert svhn["LFBM-MCMC"] == ["0.005", "not run", "23.64", "not run"]
    assert svhn["LFBM-MCMC, inference.num_steps=100"] == ["-", "1 (1)", "-", "not run"]


def test_made_up_images_stand_in_no_table_of_the_papers_data(tmp_path):
    """Regression: three smoke runs (K = 2, 2, 3; seeds 0, 1, 0) appeared beside SVHN's 0.005."""
    for i, (steps, seed, mse) in enumerate(((2, 0, 0.39), (2, 1, 0.41), (3, 0, 0.42))):
        figures = {"reconstruct": {"mse": mse, "num_images": 6}}
        changes = {"inference__num_steps": steps}
        make_run(tmp_path / str(i), "svhn:smoke", figures, seed, step=2, **changes)
    make_run(tmp_path / "jpeg", "cifar10:jpeg", {"reconstruct": {"mse": 0.5}})
    lines = tables.table_2(runs_in(tmp_path))
    for data in ("SVHN", "CIFAR-10", "CelebA"):
        assert all(cells[1] in ("MSE, ours", "not run", "---")
                   for cells in section(lines, data).values())
    made_up = section(lines, "made-up images, 32 x 32")
    assert made_up["LFBM-MCMC, inference.num_steps=2"][:2] == ["-", "0.4 ± 0.014 (2)"]
    assert made_up["LFBM-MCMC, inference.num_steps=3"][:2] == ["-", "0.42 (1)"]
    assert section(lines, "CIFAR-10 (JPEG)")["LFBM-MCMC"][:2] == ["-", "0.5 (1)"]


def test_steps_splits_and_seeds_tell_runs_apart(tmp_path):
    reconstruct = {"reconstruct": {"mse": 1}}
    make_run(tmp_path / "a", "svhn", reconstruct, step=500)
    make_run(tmp_path / "b", "svhn", reconstruct, seed=1)
    make_run(tmp_path / "again", "svhn", reconstruct, seed=1)
    make_run(tmp_path / "part", "svhn", {"reconstruct": {"mse": 2, "num_images": 1000}})
    svhn = section(tables.table_2(runs_in(tmp_path)), "SVHN")
    assert svhn["LFBM-MCMC, after 500 iterations"][:2] == ["-", "1 (1)"]
    assert svhn[f"LFBM-MCMC, after {LONG} iterations"][:2] == ["0.005", "1 (1)"], "one seed once"
    assert svhn["LFBM-MCMC, reconstruct num_images=1000"][:2] == ["-", "2 (1)"]


def test_a_model_that_learned_for_too_short_says_so(tmp_path):
    make_run(tmp_path / "a", "svhn", {"reconstruct": {"mse": 1}}, step=500)
    svhn = section(tables.table_2(runs_in(tmp_path)), "SVHN")
    assert svhn["LFBM-MCMC, after 500 iterations"][:2] == ["-", "1 (1)"]
    assert svhn["LFBM-MCMC"][:2] == ["0.005", "not run"]


def test_the_nine_models_of_table_1_are_nine_rows(tmp_path):
    """Regression: after `compare --models=table1`, `tables` averaged short and long runs."""
    models = ("", "long_run", "lfbm_vae", "lebm", "lebm,long_run", "lebm,inference=encoder",
              "abp", "abp,long_run", "vae")  # fmt: skip
    for i, variants in enumerate(models):
        make_run(tmp_path / str(i), f"digits:{variants}", {"reconstruct": {"mse": i}})
    rows = section(tables.table_2(runs_in(tmp_path)), "digits")
    assert sorted(cells[1] for cells in list(rows.values())[2:]) == [f"{i} (1)" for i in range(9)]
    assert rows["LEBM, inference.num_steps=100"][1] == "4 (1)"


def test_settings_of_tasks_matter_to_their_figures_alone(tmp_path):
    figures = {"reconstruct": {"mse": 1}, "inpaint": {"mse_hidden": 2}}
    make_run(tmp_path / "a", "mnist", figures)
    make_run(tmp_path / "b", "mnist", figures, seed=1, task__inpaint__mask="center_box:4")
    runs = runs_in(tmp_path)
    assert section(tables.table_2(runs), "MNIST")["LFBM-MCMC"][1] == "1 ± 0 (2)"
    assert section(tables.table_3(runs), "MNIST").keys() >= {
        "LFBM-MCMC, task.inpaint.mask=center_box, ours",
        "LFBM-MCMC, task.inpaint.mask=center_box:4, ours",
    }


def test_folders_of_images_are_known_by_their_place(tmp_path):
    for i in range(2):
        make_run(tmp_path / str(i), "image_folder", {"reconstruct": {"mse": i}}, data__dir=f"/p{i}")
    rows = section(tables.table_2(runs_in(tmp_path)), "images")
    assert rows["LFBM-MCMC, data.dir=/p0"][1] == "0 (1)"


def test_table_3(tmp_path):
    make_run(tmp_path / "a", "mnist", {"inpaint": {"mse_hidden": 0.125}})
    make_run(tmp_path / "b", "celeba64", {"inpaint": {"mse_hidden": 0.25, "fid": 0.05}})
    lines = tables.table_3(runs_in(tmp_path))
    assert section(lines, "MNIST")["LFBM-MCMC, ours"] == ["not run", "0.125 (1)"]
    assert section(lines, "CelebA")["LFBM-VAE, paper"] == ["0.0562", "0.2074"]
    assert section(lines, "CelebA")["LFBM-MCMC, ours"] == ["0.05 (1)", "0.25 (1)"]


def test_an_fid_that_is_not_the_papers_stands_under_its_own_name(tmp_path):
    """Regression: such figures were shown as "not run"."""
    few = {"mse_hidden": 0.25, "fid_of_1000_images": 40.0, "kid_of_1000_images": 9.0}
    for seed in range(2):
        make_run(tmp_path / str(seed), "celeba64", {"inpaint": few}, seed)
    table = section(tables.table_3(runs_in(tmp_path)), "CelebA")
    assert table["LFBM-MCMC, ours"] == ["40 ± 0 (2), fid_of_1000_images", "0.25 ± 0 (2)"]

    occluded = {"generate": {"fid_to_10000_training_images": 50.0}}
    make_run(tmp_path / "six", "celeba64:mask=random_box:30", occluded)
    lines = tables.tables_5_and_6(runs_in(tmp_path / "six"))
    table = section(lines[lines.index("## Table 6: unsupervised recovery, FID") :], "CelebA")
    (ours,) = [cells for label, cells in table.items() if label.endswith(", ours")]
    assert ours[table["method"].index(paper.occlusion("random_box:30", 64))] == (
        "50 (1), fid_to_10000_training_images"
    )

    other = {"reconstruct": {"mse": 0.5}, "generate": {"fid_with_other_weights": 30.0}}
    make_run(tmp_path / "other", "svhn", other)
    svhn = section(tables.table_2(runs_in(tmp_path / "other")), "SVHN")
    assert svhn["LFBM-MCMC"] == ["0.005", "0.5 (1)", "-", "30 (1), fid_with_other_weights"]


def test_table_4_by_digit(tmp_path):
    """Different digits may have different iterations; the runs of one digit may not."""
    for digit, seed, step, auprc in ((4, 0, LONG, 0.5), (4, 1, LONG, 0.7), (3, 0, 2 * LONG, 0.25)):
        figures = {"num_images": 2000 + digit, "auprc": auprc, "base_rate": 0.1}
        folder = tmp_path / f"digit-{digit}" / f"seed-{seed}"
        changes = {"data__exclude_labels": (digit,), "step": step}
        make_run(folder, "mnist_anomaly", {"anomaly": figures}, seed, **changes)
    make_run(tmp_path / "s", "mnist_anomaly:digit=1,smoke", {"anomaly": {"auprc": 0.9}})
    lines = tables.table_4(runs_in(tmp_path))
    heading = next(line[4:] for line in lines if line.startswith("### MNIST")
                   and any("0.6 ± 0.14" in cell for row in section(lines, line[4:]).values()
                           for cell in row))
    table = section(lines, heading)
    digits = table["held-out class"]
    ours = dict(zip(digits, table["LFBM-MCMC, ours"], strict=True))
    assert (ours["4"], ours["3"]) == ("0.6 ± 0.14 (2)", "0.25 (1)")
    scored = dict(zip(digits, table["LFBM-MCMC, images scored"], strict=True))
    assert scored["4"] == "2,004 ± 0 (2)"
    made_up = [line for line in lines if line.startswith("### made-up images, 28 x 28")]
    assert len(made_up) == 1


def test_scores_of_some_images_are_not_averaged_with_scores_of_all(tmp_path):
    for seed, (count, asked) in enumerate([(2004, 0), (2004, 0), (500, 500)]):
        figures = {"num_images": count, "auprc": 0.5 if asked == 0 else 0.9}
        changes = {"data__exclude_labels": (4,), "task__anomaly__num_images": asked}
        make_run(tmp_path / f"seed-{seed}", "mnist_anomaly", {"anomaly": figures}, seed, **changes)
    lines = tables.table_4(runs_in(tmp_path))
    assert any("0.5 ± 0 (2)" in line for line in lines)
    (alone,) = [line for line in lines if "0.9 (1)" in line]
    assert "task.anomaly.num_images=500" in alone


def test_table_4_of_the_paper_stands_at_its_base_rate_only(tmp_path):
    for name, share in (("pooled", 0.8), ("test", 0.0)):
        run = tmp_path / name
        make_run(run, "mnist_anomaly:digit=4", {"anomaly": {"auprc": share}})
        config = json.loads((run / "config.json").read_text())
        config["data"]["pooled_train_share"] = share
        (run / "config.json").write_text(json.dumps(config))
    lines = tables.table_4(runs_in(tmp_path))
    test = section(lines, "MNIST, the test split")
    assert [label for label in test if "paper" in label] == []
    assert test["LFBM-MCMC, ours"] == ["0 (1)"]
    (heading,) = [line[4:] for line in lines if line.startswith("### MNIST, 80 %")]
    pooled = section(lines, heading)
    assert pooled["LFBM-MCMC, ours"][1] == "0.8 (1)"
    assert "VAE, paper (see below)" in pooled and "LEBM, paper" in pooled


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
    changes = {"data__mask": mask, "data__image_size": side}
    make_run(tmp_path / "run", "mnist:abp", figures, **changes)
    make_run(tmp_path / "encoder", "mnist:vae", {"recover": {"mse_hidden": 9}}, **changes)
    lines = tables.tables_5_and_6(runs_in(tmp_path))
    middle = lines.index("## Table 6: unsupervised recovery, FID")
    for part, value in ((lines[:middle], "0.5 (1)"), (lines[middle:], "50 (1)")):
        table = section(part, "MNIST")
        kinds = [*paper.OCCLUSIONS, *([mask] if column is None else [])]
        assert table["method"] == kinds
        expected = ["not run"] * len(kinds)
        expected[-1 if column is None else column] = value
        assert table["ABP, ours"] == expected
    assert "9 (1)" in section(lines, "MNIST")["VAE, ours"], "encoders and chains are apart"


def test_table_11_finds_the_times_that_runs_recorded(tmp_path):
    """1,000 images per second with 10 batches of 300 per epoch make 0.05 minutes."""
    generate = {"generate": {"time/milliseconds_per_batch": 80.0}}
    for seed, rate in enumerate((1000, 1000)):
        run = tmp_path / str(seed)
        make_run(run, "celeba64:table11", generate, seed, step=10 + seed, train__batch_size=300)
        lines = [{"step": 5}, {"step": 20, "epoch": 2.0, "time/images_per_second": rate}]
        lines += [{"step": 40, "epoch": 4.0, "time/images_per_second": rate}]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    make_run(tmp_path / "gpu", "celeba64:table11", generate, setup={"device": "1 x H100"})
    path = tmp_path / "gpu" / "reports" / "generate.json"
    then = {"task": {"generate": {"batch_size": 128}}}  # The config has been changed since.
    path.write_text(json.dumps(json.loads(path.read_text()) | {"measured_with": then}))
    make_run(tmp_path / "lebm", "celeba64:lebm", {"reconstruct": {"mse": 1}})
    (tmp_path / "lebm" / "figures.json").write_text(
        json.dumps({"config": {}, "figures": {"time/milliseconds_to_sample": 7.0}})
    )
    lines = tables.table_11(runs_in(tmp_path))
    ours = [line for line in lines if "ours" in line]
    assert ours == [
        "| LFBM-MCMC, ours | 1 x cpu | 300 | 0.05 ± 0 (2) | 256 | 80 ± 0 (2) |",
        "| LFBM-MCMC, ours | 1 x H100 | 256 | not run | 128 | 80 (1) |",
        "| LEBM, ours | 1 x cpu | 100 | not run | 100 | 7 (1) |",
    ]


def test_table_11_takes_times_of_the_benchmark_where_training_recorded_none(tmp_path):
    """An epoch of CelebA's 162,770 images has 636 batches of 256, the last of them not full."""
    seconds = {"benchmark": {"seconds_per_step": 6.0, "synthesis_milliseconds": 70.0}}
    make_run(tmp_path / "a", "celeba64:table11", seconds, setup={"device": "1 x H100"})
    make_run(tmp_path / "other", "digits", seconds)
    lines = tables.table_11(runs_in(tmp_path))
    on_gpu, on_cpu = (f"1 x {kind}, random images" for kind in ("H100", "cpu"))
    assert f"| LFBM-MCMC, ours | {on_gpu} | 256 | 63.6 (1) | 256 | 70 (1) |" in lines
    assert f"| LFBM-MCMC, ours | {on_cpu} | 100 | not run | 100 | 70 (1) |" in lines


def test_table_13_counts_parameters(tmp_path):
    make_run(tmp_path / "a", "celebahq256", {"generate": {"fid": 99.0}})
    make_run(tmp_path / "b", "celebahq256:lebm", {"generate": {}})
    text = "\n".join(tables.table_13(runs_in(tmp_path)))
    with_biases = "583,680 (586,240 with biases that have no effect)"
    assert f"| LFBM-MCMC, ours | {with_biases} | - | 49,817,731 | 99 (1) |" in text
    assert "| LEBM, ours | 1,131,001 | - | 49,817,731 | not run |" in text


def test_file_has_every_table_and_lists_the_runs(tmp_path):
    folder = tmp_path / "runs"
    make_run(folder / "a", "svhn", {"reconstruct": {"mse": 0.5}}, seed=3)
    path = tables.write([folder, folder / "a"], tmp_path / "new" / "tables.md")
    text = path.read_text()
    assert all(f"## Table {number}" in text for number in (2, 3, 4, 5, 6, 11, 13))
    (listed,) = [line for line in text.splitlines() if line.startswith(f"| {folder / 'a'}")]
    assert listed.split(" | ")[1:5] == ["SVHN", "-", "LFBM-MCMC", "3"]
    assert "0.5 (1)" in text, "a run that two folders lead to counts once"


def test_what_cannot_be_read_below_a_folder_is_named_and_left_out(tmp_path):
    make_run(tmp_path / "whole", "svhn", {"reconstruct": {"mse": 0.5}})
    make_run(tmp_path / "torn", "svhn", {"reconstruct": {"mse": 0.5}})
    (tmp_path / "torn" / "reports" / "reconstruct.json").write_text("{")
    make_run(tmp_path / "mixed", "svhn", {"reconstruct": {"mse": 0.5}})
    (tmp_path / "mixed" / "reports" / "notes.json").write_text("[1, 2]")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    text = tables.write([tmp_path], tmp_path / "tables.md").read_text()
    left_out = text[text.index("Left out:") :]
    for name, said in (("torn", "reconstruct.json is damaged"), ("mixed", "notes.json is not a"),
                       ("other", "not the config of a run")):
        (line,) = [line for line in left_out.splitlines() if f"- {tmp_path / name}" in line]
        assert said in line
    with pytest.raises(UserError, match=r"reconstruct\.json is damaged"):
        tables.write([tmp_path / "torn"], tmp_path / "tables.md")


def test_command_line(run_python, tmp_path):
    make_run(tmp_path / "a", "svhn", {"reconstruct": {"mse": 0.5}})
    command = ["-m", "lfbm_jax.tables", f"--out={tmp_path / 't.md'}"]
    done = run_python([*command, tmp_path / "a"])
    assert (tmp_path / "t.md").read_text() in done.stdout
    none = run_python(command, check=False)
    assert none.returncode == 2
    assert none.stderr.strip().count("\n") == 0 and "no runs given" in none.stderr
