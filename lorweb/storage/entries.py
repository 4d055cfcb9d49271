"""The storage section of the parameter file."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from pydantic import ConfigDict, field_validator, model_validator

from lorweb.sections import Section
from lorweb.storage.protocols import holds_password

SECRETS: Final = ("key", "secret", "token", "pass", "pwd", "credential", "connection_string", "conn_str")
"""Parts of names of options that hold secrets."""


class Storage(Section):
    """What the nodes of a cluster share: nothing but a store, or (`uri` None) the project's folder under one path."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    uri: str | None  # a folder, or a prefix of any protocol of fsspec
    options: dict[str, str | int | float | bool]  # for fsspec's file system

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and holds_password(uri):
            raise ValueError(
                "the URI holds a password, and the parameter file is versioned and sent to jobs; take it out, and put "
                "it into the environment of the nodes or an agent for ssh keys (docs/storage.md)"
            )
        return uri

    @field_validator("options", mode="before")  # before their types are looked at, so that no fault shows a value
    @classmethod
    def _holds_no_secrets(cls, options: Any) -> Any:
        for name, value in _all(options):
            if any(part in name.lower() for part in SECRETS) or holds_password(str(value)):
                raise ValueError(
                    f"'{name}' would write a secret into the parameter file, which is versioned and sent to jobs; put "
                    "it into the environment instead (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
                )
        return options

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.options and self.uri is None:
            raise ValueError("storage.options are for a store, and storage.uri is null; give the uri, or delete them")
        return self


def _all(options: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of options, nested ones too (`client_kwargs`), and what is no mapping as one of them."""
    for name, value in options.items() if isinstance(options, Mapping) else [("options", options)]:
        yield str(name), value
        if isinstance(value, Mapping):
            yield from _all(value)
