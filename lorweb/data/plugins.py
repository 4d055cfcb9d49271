"""Classes of the user's own, named in parameters as "module:Class"."""

import difflib
import importlib
import inspect
import sys
from pathlib import Path

from lorweb.data.manifest import file_sha256
from lorweb.hub import first_line


def load_class(spec: str, where: str) -> type:
    """The class that "module:Class" names; modules beside params.yaml are found. `where` is what messages call it.

    Raises:
        ValueError: no such module, an error in it, or no such class in it.
    """
    module_name, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:  # workers stand in the project folder, but Python was not started there
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{where}: cannot import '{module_name}' ({error}); it must lie in the project folder or be installed"
        ) from error
    except Exception as error:  # user code: anything may go wrong while it is read
        raise ValueError(
            f"{where}: importing '{module_name}' failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        classes = [n for n, value in vars(module).items() if inspect.isclass(value)]
        near = difflib.get_close_matches(name, classes, n=1, cutoff=0.0)
        hint = f"did you mean '{near[0]}'?" if near else "it holds no class"
        raise ValueError(f"{where}: no class '{name}' in '{module_name}'; {hint}")
    return found


def code_of(cls: type) -> str:
    """Sha256 of the file that a class stands in, "" where there is none: results change when it does."""
    path = Path(inspect.getsourcefile(cls) or "")
    return file_sha256(path) if path.is_file() else ""
