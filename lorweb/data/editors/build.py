"""From parameters to editors: what is known of one before it is loaded, and the loaded one."""

import re
from pathlib import Path
from typing import Any

from lorweb.data.editors.base import Editor, EditorFacts
from lorweb.data.editors.embedded import EmbeddedEditor
from lorweb.data.editors.emoji import EmojiEditor, describe_emoji
from lorweb.data.editors.entries import (
    DiffusersConfig,
    EditorConfig,
    EmbeddedConfig,
    EmojiConfig,
    GivenConfig,
    KontextConfig,
    PythonConfig,
)
from lorweb.data.editors.given import GivenEditor
from lorweb.data.plugins import code_of, load_class
from lorweb.hub import first_line
from lorweb.records import stable_id


def describe(cfg: EditorConfig) -> EditorFacts:
    """Name, revision and seeds of an editor, without loading its weights.

    Raises:
        FileNotFoundError, ValueError: what it needs is not there; the sentence says what to do.
    """
    match cfg:
        case EmbeddedConfig():
            return EditorFacts(EmbeddedEditor.name, EmbeddedEditor().revision, EmbeddedEditor.seed_by)
        case KontextConfig():
            from lorweb.data.editors.kontext import describe_kontext

            return describe_kontext(cfg)
        case DiffusersConfig():
            from lorweb.data.editors.stock import describe_diffusers

            return describe_diffusers(cfg)
        case EmojiConfig():
            return describe_emoji()
        case GivenConfig():
            return EditorFacts(GivenEditor.name, GivenEditor.revision, GivenEditor.seed_by)
        case PythonConfig():
            return _describe_python(cfg)


def build_editor(cfg: EditorConfig, sources: Path) -> Editor:
    """The loaded editor of an entry; `sources` is data/sources. Raises as `describe` does."""
    match cfg:
        case EmbeddedConfig():
            return EmbeddedEditor()
        case KontextConfig():
            from lorweb.data.editors.kontext import KontextEditor

            return KontextEditor(cfg)
        case DiffusersConfig():
            from lorweb.data.editors.stock import DiffusersEditor

            return DiffusersEditor(cfg)
        case EmojiConfig():
            return EmojiEditor(cfg)
        case GivenConfig():
            return GivenEditor(sources)
        case PythonConfig():
            return _build_python(cfg)


def _describe_python(cfg: PythonConfig) -> EditorFacts:
    cls: Any = _python_class(cfg)
    options = sorted(cfg.options.items())
    return EditorFacts(cls.name, stable_id(cls.revision, code_of(cls), options), cls.seed_by)


def _python_class(cfg: PythonConfig) -> Any:
    where = f"editor '{cfg.class_}'"
    cls: Any = load_class(cfg.class_, where)
    for attribute in ("name", "revision"):
        if not isinstance(getattr(cls, attribute, None), str) or not getattr(cls, attribute):
            raise ValueError(f"{where}: the class has no text '{attribute}'; write {attribute} = \"...\" into it")
    if not re.fullmatch(r"[\w-]{1,40}", cls.name):
        raise ValueError(f"{where}: its name is '{cls.name}'; use up to 40 letters, digits, '-' and '_'")
    if getattr(cls, "seed_by", None) not in ("task", "pair"):
        raise ValueError(f'{where}: the class has no seed_by; write seed_by = "pair" (or "task") into it')
    if "__call__" not in vars(cls) and not any("__call__" in vars(base) for base in cls.__mro__[:-1]):
        raise ValueError(
            f"{where}: the class cannot be called; give it __call__(self, batch) (lorweb.data.editors.Editor)"
        )
    return cls


def _build_python(cfg: PythonConfig) -> Editor:
    try:
        editor: Editor = _python_class(cfg)(cfg.options)
    except ValueError:
        raise
    except Exception as error:  # user code: anything may go wrong in it
        raise ValueError(
            f"editor '{cfg.class_}' could not be made with options {cfg.options}: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    return editor
