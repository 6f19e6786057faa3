"""Where the FID network's weights come from, and what can be wrong with them."""

import hashlib
import http.server
import threading

import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.metrics import inception_weights as weights
from tests import pytorch_writer
from tests.builders import small_config
from tests.metrics import random_inception

CONTENT = b"as good as any" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def config(tmp_path):
    config = small_config()
    config.data.cache_dir = str(tmp_path / "cache")
    config.metrics.inception_weights = "download"
    return config


@pytest.fixture
def server(monkeypatch):
    """A server on this machine; `answers` says what it sends."""
    answers = {"status": 200, "body": CONTENT, "length": len(CONTENT), "count": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answers["count"] += 1
            self.send_response(answers["status"])
            self.send_header("Content-Length", str(answers["length"]))
            self.end_headers()
            self.wfile.write(answers["body"])

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(weights, "URL", f"http://127.0.0.1:{server.server_port}/file")
        monkeypatch.setattr(weights, "SHA256", DIGEST[:8])
        monkeypatch.setattr(weights, "FILE", f"weights-{DIGEST[:8]}.pth")
        yield answers
        server.shutdown()


def left_over(tmp_path):
    return [path.name for path in (tmp_path / "cache").glob("*")]


def test_fetched_once(config, server, tmp_path):
    found = weights.locate(config)
    assert found.path.read_bytes() == CONTENT
    assert found.sha256 == DIGEST
    assert found.genuine
    assert weights.locate(config) == found
    assert server["count"] == 1
    assert left_over(tmp_path) == [weights.FILE]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"body": b"another file", "length": 12}, "does not have the right checksum"),
        ({"body": CONTENT[:100]}, "does not have the right checksum"),
        ({"status": 404, "body": b"", "length": 0}, "Not Found"),
    ],
    ids=["another", "truncated", "missing"],
)
def test_failed_downloads_leave_nothing_behind(answer, text, config, server, tmp_path):
    server.update(answer)
    with pytest.raises(UserError, match=f"{text}.*--config.metrics.inception_weights=FILE"):
        weights.locate(config)
    assert left_over(tmp_path) == []


def test_an_unreachable_host_is_said_at_once(config, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "URL", "http://127.0.0.1:9/file")
    with pytest.raises(UserError, match=r"cannot be fetched .*refused.*inception_weights=FILE"):
        weights.locate(config)
    assert left_over(tmp_path) == []


def test_a_name_that_promises_another_checksum(config, tmp_path):
    path = tmp_path / f"weights-{DIGEST[:8]}.pth"
    config.metrics.inception_weights = str(path)
    with pytest.raises(UserError, match="cannot read"):
        weights.locate(config)
    path.write_bytes(CONTENT)
    assert not weights.locate(config).genuine
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=f"not {DIGEST[:8]}... as its name says"):
        weights.locate(config)


def test_another_networks_weights_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    state = random_inception.state_dict()
    del state["Mixed_7c.branch1x1.bn.weight"]
    pytorch_writer.save(path, state)
    with pytest.raises(UserError, match=r"weights\.pth.*Mixed_7c\.branch1x1\.bn\.weight"):
        weights.load(weights.Weights(path, "0"))
