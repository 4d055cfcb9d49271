"""The storage section holds no secret, whatever it is called, and says so without repeating it."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from cluster.errand import store_of
from lorweb.config import parse_params
from lorweb.storage.entries import Storage

ROOT = Path(__file__).parents[2]
URI = "s3://bucket/x"


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("sftp://me:hunter2@host/x", {}, "the URI holds a password"),
        ("sftp://me:hunter2/hunter2@host/x", {}, "the URI holds a password"),
        ("simplecache::sftp://me:hunter2@host/x", {}, "the URI holds a password"),
        (URI, {"endpoint_url": "http://u:hunter2@h"}, "'endpoint_url' would write a secret"),
        ("https://hunter2@host/x", {}, "the URI holds a password"),
        ("HTTPS://hunter2:@host/x", {}, "the URI holds a password"),
        (URI, {"endpoint_url": "https://hunter2@h"}, "'endpoint_url' would write a secret"),
        (URI, {"endpoint_url": ["http://u:hunter2@h"]}, "'endpoint_url' would write a secret"),
        (URI, {"client_kwargs": {"aws_secret_access_key": "hunter2"}}, "'aws_secret_access_key' would write a secret"),
        *(
            (URI, {name: "hunter2"}, f"'{name}' would write a secret")
            for name in (
                "connection_string",
                "passphrase",
                "credentials",
                "secretkey",
                "account_key",
                "PassWord",
                "pwd",
            )
        ),
    ],
)
def test_a_secret_is_refused_and_not_repeated(uri, options, words):
    section = {"uri": uri, "options": options}
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"storage": section}
    with pytest.raises(ValueError, match=words) as read:
        parse_params(params, "params.yaml")
    with pytest.raises(ValueError, match=words) as submitted:
        store_of(json.dumps(params))
    with pytest.raises(ValidationError, match=words) as made:
        Storage(**section)
    assert "hunter2" not in f"{read.value} {submitted.value} {made.value}"


def test_what_only_looks_like_one_is_taken():
    for uri in (
        "sftp://me@host:22/x@y",
        "s3://bucket/a:b@c",
        "abfs://box@account.dfs.core.windows.net/x",
        "/mnt/a:b@c",
        "https://host/x?y=a@b",
    ):
        options = {"endpoint_url": "http://10.0.0.5:9000", "profile": "me", "port": 22, "anon": False}
        assert Storage(uri=uri, options=options).uri == uri
