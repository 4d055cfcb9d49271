"""How a registered model is named, `models:/NAME@ALIAS` or `models:/NAME/VERSION`, and an SQLite file. No MLflow."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCHEME: Final = "models:/"
SQLITE: Final = "sqlite:///"
_SPECIAL: Final = frozenset("%?#")  # what a path may hold and means something else in an address
# of a name: what MLflow refuses, what ends a text in its filters, what an address ends a name at, and what is no text
_NO_NAME: Final = re.compile(r"""[/:@'"`\\\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\s*$|^\.$|^\.\.""")


def check_model_name(name: str) -> None:
    """Raises ValueError for what no registered model can be called, or none that an address could name."""
    if _NO_NAME.search(name):
        raise ValueError(
            f"the name of a registered model is {name!r}; it must not be blank, '.', begin with '..', or hold a quote, "
            "a backslash, a slash, a colon, an @ or a control character"
        )


@dataclass(frozen=True)
class Address:
    """One version of a registered model: by its number, which stays, or by an alias, which moves."""

    name: str
    alias: str = ""
    number: int | None = None

    @classmethod
    def of(cls, uri: str) -> "Address | None":
        """None for a path, and for what names no version of a registered model (`models:/m-ID`)."""
        if not uri.startswith(SCHEME):
            return None
        name, at, alias = uri.removeprefix(SCHEME).partition("@")
        if at:
            return cls(name, alias)
        name, _, number = name.partition("/")
        return cls(name, number=int(number)) if number.isdecimal() else None

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}{f'@{self.alias}' if self.number is None else f'/{self.number}'}"

    def version(self, client: Any) -> Any:
        """MLflow's own version. Raises MlflowException where there is none."""
        if self.number is None:
            return client.get_model_version_by_alias(self.name, self.alias)
        return client.get_model_version(self.name, str(self.number))


def sqlite_uri(file: Path) -> str:
    """The address of a database file, whatever its path holds."""
    if not _SPECIAL & set(str(file)):
        return f"{SQLITE}{file}"
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(file)).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """The file of such an address; None for an address of another kind."""
    if not uri.startswith(SQLITE):
        return None
    if not _SPECIAL & set(uri):
        return Path(uri.removeprefix(SQLITE))
    from sqlalchemy import make_url

    return Path(make_url(uri).database or "")
