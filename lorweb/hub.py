"""Names on the model hub, and how its refusals are told in one line."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the form owner/name and cannot be meant as a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def first_line(error: BaseException) -> str:
    """The first line of a message, or the name of the error where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
