"""The storage section of the parameter file."""

from typing import Final, Self

from pydantic import model_validator

from lorweb.sections import Section

SECRETS: Final = ("key", "secret", "token", "password", "credential")  # parts of names of options that hold secrets


class Storage(Section):
    """What the nodes of a cluster share: nothing but a store, or (`uri` None) the project's folder under one path."""

    uri: str | None  # a folder, or a prefix of any protocol of fsspec
    options: dict[str, str | int | float | bool]  # for fsspec's file system

    @model_validator(mode="after")
    def _holds_no_secrets(self) -> Self:
        for name in self.options:
            if any(part in name.lower().split("_") for part in SECRETS):
                raise ValueError(
                    f"storage.options.{name} would write a secret into the parameter file, which is versioned and sent "
                    "to jobs; put it into the environment instead (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
                )
        if self.options and self.uri is None:
            raise ValueError("storage.options are for a store, and storage.uri is null; give the uri, or delete them")
        return self
