"""Small stand-ins for the original files of SVHN, CIFAR-10 and CelebA, in the same layout.

Each function writes files under the names of the original ones into a folder and returns what was
put into them.
"""

import hashlib
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image

CIFAR_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
)  # fmt: skip
CELEBA_HEIGHT, CELEBA_WIDTH = 218, 178
CELEBA_SPLITS = ("train", "validation", "test")  # by their number in list_eval_partition.txt
CELEBA_LANDMARKS = (
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y"
    " rightmouth_x rightmouth_y"
)
CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose"
    " Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee"
    " Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard"
    " Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair"
    " Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie"
    " Young"
)


def svhn(folder):
    """MATLAB files: X uint8 [32, 32, 3, N], y uint8 [N, 1] in 1 ... 10, where 10 is the digit 0.

    Returns:
        split -> (images uint8 [N, 32, 32, 3], digits [N]); the paper does not use `extra`.
    """
    from scipy import io as matlab

    random = np.random.default_rng(0)
    written = {}
    for split, count in (("train", 12), ("test", 5), ("extra", 3)):
        images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        digits = (np.arange(count) * 7 + 3) % 10
        y = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        # version 5, compressed, as the originals are
        matlab.savemat(
            folder / f"{split}_32x32.mat",
            {"X": np.moveaxis(images, 0, -1), "y": y},
            do_compression=True,
        )
        written[split] = images, digits
    return written


def cifar10(folder):
    """A tar archive of binary files: a label's byte, then red, green and blue planes, row by row.

    Returns:
        split -> (images uint8 [N, 32, 32, 3], labels [N]).
    """
    random = np.random.default_rng(1)
    files = {f"data_batch_{i}.bin": ("train", 3) for i in range(1, 6)}
    files["test_batch.bin"] = ("test", 4)
    written = {"train": [], "test": []}
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:

        def add(name, content):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        add("batches.meta.txt", "\n".join([*CIFAR_CLASSES, "", ""]).encode())
        for name, (split, count) in files.items():
            images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
            labels = random.integers(0, 10, count, dtype=np.uint8)
            records = [
                bytes([label]) + image.transpose(2, 0, 1).tobytes()
                for image, label in zip(images, labels, strict=True)
            ]
            add(name, b"".join(records))
            written[split].append((images, labels))
        add("readme.html", b"<html></html>")
    return {
        split: tuple(np.concatenate(parts) for parts in zip(*of_split, strict=True))
        for split, of_split in written.items()
    }


def cifar10_batches(folder):
    """The same for Python: a folder of pickles written by Python 2, and two other files.

    Returns:
        split -> (images uint8 [N, 32, 32, 3], labels [N]).
    """
    random = np.random.default_rng(3)
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    files = {f"data_batch_{i}": ("train", 3) for i in range(1, 6)} | {"test_batch": ("test", 4)}
    written = {"train": [], "test": []}
    for name, (split, count) in files.items():
        images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = random.integers(0, 10, count).tolist()
        batch = {
            b"batch_label": name.encode(),
            b"labels": labels,
            b"data": images.transpose(0, 3, 1, 2).reshape(count, -1),
            b"filenames": [b"%d.png" % i for i in range(count)],
        }
        (place / name).write_bytes(python2_pickle(batch))
        written[split].append((images, np.array(labels)))
    (place / "batches.meta").write_bytes(python2_pickle({b"label_names": list(CIFAR_CLASSES)}))
    (place / "readme.html").write_text("<html></html>")
    return {
        split: tuple(np.concatenate(parts) for parts in zip(*of_split, strict=True))
        for split, of_split in written.items()
    }


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its texts."""

    dispatch = dict(pickle._Pickler.dispatch)

    def _save_text(self, text):
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = _save_text


def python2_pickle(content):
    """A pickle as Python 2 and its NumPy wrote it; bytes stand for its texts."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def md5(folder, names):
    """Name -> MD5 of files in a folder."""
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names}


def celeba(folder):
    """The aligned JPEGs in a zip archive, and four text files.

    Returns:
        split -> images uint8 [N, 218, 178, 3], as Pillow decodes the JPEGs.
    """
    random = np.random.default_rng(2)
    partition = [0, 1, 0, 2, 1, 0, 2, 2, 0]
    names = [f"{number:06d}.jpg" for number in range(1, len(partition) + 1)]
    written = {split: [] for split in CELEBA_SPLITS}
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/", b"")
        for name, number in zip(names, partition, strict=True):
            coarse = random.integers(0, 256, (14, 12, 3), dtype=np.uint8)  # JPEG loses noise
            smooth = Image.fromarray(coarse).resize((CELEBA_WIDTH, CELEBA_HEIGHT), Image.BICUBIC)
            content = io.BytesIO()
            smooth.save(content, "JPEG", quality=95)
            archive.writestr(f"img_align_celeba/{name}", content.getvalue())
            written[CELEBA_SPLITS[number]].append(np.asarray(Image.open(content)))

    def table(name, header, rows):
        lines = [*header, *(f"{file} {row}" for file, row in zip(names, rows, strict=True))]
        (folder / name).write_text("\n".join(lines) + "\n")

    count = str(len(names))
    table("list_eval_partition.txt", [], partition)
    table("identity_CelebA.txt", [], range(100, 100 + len(names)))
    landmarks = " ".join(map(str, range(10)))
    table("list_landmarks_align_celeba.txt", [count, CELEBA_LANDMARKS], [landmarks] * len(names))
    attributes = " ".join(["-1", "1"] * 20)
    table("list_attr_celeba.txt", [count, CELEBA_ATTRIBUTES], [attributes] * len(names))
    return {split: np.stack(images) for split, images in written.items()}


def record_checksums(monkeypatch, name, folder):
    """Makes the TFDS builder of a data set accept the files in a folder as the originals."""
    import tensorflow_datasets as tfds

    on_record = tfds.builder_cls(name).url_infos
    for url, info in on_record.items():
        content = (folder / info.filename).read_bytes()
        found = type(info)(len(content), hashlib.sha256(content).hexdigest(), info.filename)
        monkeypatch.setitem(on_record, url, found)
