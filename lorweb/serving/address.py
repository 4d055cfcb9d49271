"""How a registered model is named: `models:/NAME@ALIAS` or `models:/NAME/VERSION`. Light: no MLflow."""

from dataclasses import dataclass
from typing import Any, Final

SCHEME: Final = "models:/"


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
