"""Parquet and Arrow files of encoded images, in folders and from a stand-in for the hub."""

import functools
import http.server
import io
import json
import re
import sys
import threading
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import lfbm_jax.data
from lfbm_jax.data import huggingface
from tests.builders import experiment, small_config

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as `datasets` stores images


@pytest.fixture
def prepare(tmp_path):
    """`prepare(place, channels=3, ...)`: the cache of a folder or a file."""

    def prepare(place, **settings):
        data = small_config().data
        data.update({"source": "huggingface", "name": "x", "dir": str(place), "channels": 3})
        data.update({"cache_dir": str(tmp_path / "cache")} | settings)
        return lfbm_jax.data.prepare(data)

    return prepare


def pixels(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def encoded(image, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def table(images, labels=None, image="image", kind=STRUCT, names=None):
    """A table of encoded images, with class names if given, as `datasets` writes them."""
    contents = [content if isinstance(content, bytes | None) else encoded(content)
                for content in images]
    if kind is STRUCT:
        contents = [content and {"bytes": content, "path": None} for content in contents]
    columns = {image: pa.array(contents, kind), "id": pa.array(range(len(contents)))}
    if labels is not None:
        columns["label"] = pa.array(labels)
    made = pa.table(columns)
    if names:
        label = {"names": names, "_type": "ClassLabel"}
        features = {"info": {"features": {image: {"_type": "Image"}, "label": label}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(features)})
    return made


def write(path, made, form="parquet"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        parquet.write_table(made, path, row_group_size=3)
        return path
    begin = {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}[form]
    with begin(path, made.schema) as writer:
        writer.write_table(made, max_chunksize=3)
    return path


def manifest(cache):
    return json.loads((cache.directory / "manifest.json").read_text())


def test_a_repository_as_it_is_downloaded(prepare, tmp_path, capsys):
    """Shards in the order of their numbers, class names, and other files in the folder."""
    folder = tmp_path / "cifar10"
    train, test = pixels(0, 22), pixels(1, 5)
    names = ["cat", "dog"]
    for i in range(11):
        part = slice(2 * i, 2 * i + 2)
        made = table(train[part], [i % 2, 1], names=names)
        write(folder / "plain_text" / f"train-{i}-of-11.parquet", made)
    write(folder / "plain_text" / "test-0-of-1.parquet", table(test, [0] * 5, names=names))
    write(folder / "plain_text" / "extra-0-of-1.parquet", table(test, [0] * 5, names=names))
    (folder / "README.md").write_text("a card")
    (folder / ".gitattributes").write_text("")
    cache = prepare(folder)
    np.testing.assert_array_equal(cache.train.images, train)
    np.testing.assert_array_equal(cache.train.labels, [label for i in range(11)
                                                       for label in (i % 2, 1)])
    np.testing.assert_array_equal(cache.held_out.images, test)
    assert manifest(cache)["classes"] == names
    left_out = "left out: 1 .md, 1 .parquet of other splits, 1 hidden"
    assert left_out in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "layout"),
    [
        ("stream", "{split}/data-00000-of-00001.arrow"),  # save_to_disk
        ("stream", "default/0.0.0/cifar10-{split}.arrow"),  # the cache of `datasets`
        ("file", "{split}.arrow"),
        ("parquet", "data/{split}/0000.parquet"),
        ("parquet", "cifar10-{split}.parquet"),
    ],
)
def test_forms_and_layouts(prepare, tmp_path, form, layout):
    images = {"train": pixels(0, 7), "valid": pixels(1, 3)}
    for split, some in images.items():
        path = tmp_path / "set" / layout.format(split=split)
        write(path, table(some, [1] * len(some)), form)
    cache = prepare(tmp_path / "set", test_split="validation")
    np.testing.assert_array_equal(cache.train.images, images["train"])
    np.testing.assert_array_equal(cache.held_out.images, images["valid"])
    assert cache.held_out.name == "validation"
    alone = prepare(tmp_path / "set" / layout.format(split="valid"), test_fraction=1 / 3)
    assert (len(alone.train.images), len(alone.held_out.images)) == (2, 1)


@pytest.mark.parametrize("kind", [STRUCT, pa.binary(), pa.large_binary()])
def test_kinds_of_columns(prepare, tmp_path, kind):
    """The labels are texts, and one of them is missing."""
    images = pixels(0, 4)
    labels = ["dog", None, "cat", "dog"]
    path = write(tmp_path / "all.parquet", table(images, labels, kind=kind))
    cache = prepare(path)
    np.testing.assert_array_equal(cache.train.images, images)
    np.testing.assert_array_equal(cache.train.labels, [1, -1, 0, 1])
    assert manifest(cache)["classes"] == ["cat", "dog"]


def test_columns_by_setting(prepare, refusal, tmp_path, capsys):
    images = pixels(0, 4)
    path = write(tmp_path / "all.parquet", table(images, [0, 1, 0, 1], image="img"))
    wanted = "'image' (all.parquet: it has img, id, label): name a column of encoded images with"
    assert f"{wanted} --config.data.image_field=NAME" in refusal(path)
    cache = prepare(path, image_field="img", label_field="id")
    np.testing.assert_array_equal(cache.train.labels, range(4))
    assert prepare(path, image_field="img").directory != cache.directory
    assert "without a column 'fine'" in refusal(path, image_field="img", label_field="fine")
    assert "'id' of another type" in refusal(path, image_field="id")
    assert "'img' of another type" in refusal(path, image_field="img", label_field="img")
    path = write(tmp_path / "more.parquet", table(images))
    assert prepare(path).train.labels is None
    assert "no labels, as there is no column 'label'" in capsys.readouterr().out


def test_all_files_that_cannot_be_used_are_counted(refusal, tmp_path):
    folder = tmp_path / "set"
    whole = write(folder / "train-0.parquet", table(pixels(0, 9))).read_bytes()
    (folder / "train-1.parquet").write_bytes(whole[:-100])
    (folder / "train-2.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid 1\n")
    (folder / "train-3.parquet").write_text("<html>quota</html>")
    (folder / "train-4.arrow").write_bytes(whole)
    write(folder / "train-5.parquet", table(pixels(0, 2), image="img"))
    line = refusal(folder)
    assert "5 of 6 files cannot be used" in line
    for said in (
        "2 truncated or damaged (train-1.parquet)",
        "1 a pointer of Git LFS, not the file itself (train-2.parquet): fetch what it points to",
        "1 a web page, not the file itself (train-3.parquet)",
        "1 without a column 'image' (train-5.parquet",
    ):
        assert said in line


def test_all_images_that_cannot_be_used_are_counted(refusal, tmp_path):
    good = pixels(0, 4)
    bad = [encoded(good[0])[:60], None, good[1][..., 0], b"text", *good[2:]]
    path = write(tmp_path / "all.parquet", table(bad))
    line = refusal(path)
    assert "4 of 6 images cannot be used" in line
    for said in (
        "2 truncated or not an image (row 0 of all.parquet",
        "1 without the bytes of an image (row 1 of all.parquet)",
        "1 of mode L (row 2 of all.parquet)",
    ):
        assert said in line


def test_damage_behind_a_good_schema_ends_in_one_line(refusal, tmp_path):
    path = write(tmp_path / "all.parquet", table(pixels(0, 30)))
    content = bytearray(path.read_bytes())
    content[4:600] = bytes(596)
    path.write_bytes(content)
    assert "all.parquet is damaged or cannot be read" in refusal(path)


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (["a.txt"], {}, r"has no files \.parquet or \.arrow; a folder of images is read with"),
        (["test.parquet", "dev.parquet"], {}, "images of test, validation, but none to train on"),
        (["train.parquet", "dev.parquet"], {},
            "test_split='test' is not a split.*'validation', ''"),
        (["a/train.parquet", "b/train.parquet"], {}, r"several subsets \(a, b\): name one"),
        (["a/partial-train/0.parquet"], {}, "only part of this data set"),
        (["train-0.parquet", "train-1.parquet"], {"unlabelled": 1}, "1 of 2 files have no column"),
    ],
)
def test_what_is_no_data_set(refusal, tmp_path, names, settings, said):
    folder = tmp_path / "set"
    for i, name in enumerate(names):
        labels = None if settings.get("unlabelled") == i else [0, 1]
        write(folder / name, table(pixels(i, 2), labels))
    line = refusal(folder)
    assert re.search(said, line), line


def test_places_that_are_none(refusal, tmp_path):
    assert "is neither a folder nor a file" in refusal(tmp_path / "none")
    assert "data.name='x' is not a name on the hub: use OWNER/NAME" in refusal("")


def test_a_missing_package_is_named(refusal, tmp_path, monkeypatch):
    path = write(tmp_path / "all.parquet", table(pixels(0, 2)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "lfbm_jax.files.tables", raising=False)
    assert "needs pyarrow, which is not installed: pip install" in refusal(path)


class Hub:
    """A stand-in for the hub on this machine: repositories with files, some of them private.

    Attributes:
        files: (repository, revision) -> {name: content}.
        asked: names of the files that were fetched.
    """

    SHA = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self):
        self.files, self.asked = {}, []

    def answer(self, method, path):
        """(status, headers, body) for a request."""
        path = unquote(path.partition("?")[0])
        if path.startswith("/api/datasets/"):
            repository, _, revision = path.removeprefix("/api/datasets/").partition("/revision/")
            files = self.files.get((repository, revision or "main"))
            if files is None:
                return 404, {"X-Error-Code": "RepoNotFound"}, b""
            listed = {"id": repository, "sha": self.SHA, "private": False, "tags": [],
                      "siblings": [{"rfilename": name} for name in files]}
            return 200, {"Content-Type": "application/json"}, json.dumps(listed).encode()
        repository, _, place = path.removeprefix("/datasets/").partition("/resolve/")
        name = place.removeprefix(f"{self.SHA}/")
        found = [files[name] for (owner, _), files in self.files.items()
                 if owner == repository and name in files]
        if not found:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        if method == "GET":
            self.asked.append(name)
        return 200, {"ETag": f'"{abs(hash(found[0]))}"', "X-Repo-Commit": self.SHA}, found[0]


@pytest.fixture
def at(tmp_path, monkeypatch):
    """`at(address)` makes the hub's package ask that address and keep files in a folder."""
    package = pytest.importorskip("huggingface_hub.constants") and sys.modules["huggingface_hub"]
    monkeypatch.setattr(package.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    api = package.HfApi
    return lambda address: monkeypatch.setattr(
        package, "HfApi", functools.partial(api, endpoint=address)
    )


@pytest.fixture
def hub(at):
    stand_in = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def respond(self):
            status, headers, body = stand_in.answer(self.command, self.path)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = respond

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at(f"http://127.0.0.1:{server.server_port}")
    yield stand_in
    server.shutdown()
    server.server_close()


def content(tmp_path, made):
    return write(tmp_path / "one.parquet", made).read_bytes()


def test_a_data_set_of_the_hub(hub, prepare, tmp_path, capsys):
    """Only the files of the splits that are used are fetched, and only once."""
    images = {split: pixels(i, 4) for i, split in enumerate(("train", "test", "extra"))}
    hub.files["owner/digits", "main"] = {"README.md": b"a card"} | {
        f"{subset}/{split}-00000-of-00001.parquet": content(tmp_path, table(some, [1] * 4))
        for split, some in images.items() for subset in ("cropped", "full")
    }  # fmt: skip
    name = "owner/digits/cropped"
    cache = prepare("", name=name)
    np.testing.assert_array_equal(cache.train.images, images["train"])
    np.testing.assert_array_equal(cache.held_out.images, images["test"])
    files = [f"cropped/{split}-00000-of-00001.parquet" for split in ("test", "train")]
    assert sorted(hub.asked) == files
    assert f"fetched at revision {Hub.SHA}" in capsys.readouterr().out
    again = prepare("", name=name, image_size=4)
    assert again.train.images.shape == (4, 4, 4, 3)
    assert sorted(hub.asked) == files


def test_what_the_hub_converted_is_read_where_there_are_other_files(hub, prepare, tmp_path):
    images = pixels(0, 4)
    hub.files["owner/digits", "main"] = {"digits.tar.gz": b"..."}
    converted = {"default/train/0000.parquet": content(tmp_path, table(images))}
    hub.files["owner/digits", huggingface.CONVERTED] = converted
    np.testing.assert_array_equal(prepare("", name="owner/digits").train.images, images)


def test_a_revision_is_asked_for(hub, prepare, refusal, tmp_path):
    images = pixels(0, 4)
    files = {"train.parquet": content(tmp_path, table(images))}
    hub.files["owner/digits", "v1"] = files
    np.testing.assert_array_equal(prepare("", name="owner/digits@v1").train.images, images)
    assert "subset 'b'" in refusal("", name="owner/digits/b@v1")


def test_what_the_hub_refuses_is_one_line(hub, refusal):
    line = refusal("", name="owner/nothing")
    assert "could not be fetched from the hub (RepositoryNotFoundError" in line


def test_no_hub_is_one_line(at, refusal):
    at("http://127.0.0.1:9")
    line = refusal("", name="owner/nothing")
    assert "could not be fetched from the hub (Connect" in line and "check the name and" in line


@pytest.mark.parametrize("name", ["svhn", "cifar10", "celeba64"])
def test_variants_read_names_that_the_hub_would_take(name):
    data = experiment(name, "huggingface").data
    assert data.source == "huggingface" and data.name.count("/") in (1, 2) and not data.dir
    assert data.image_size == experiment(name).data.image_size
