"""How bad input leaves: one exception that carries what a `Reject` record needs."""


class Rejected(Exception):
    """An input or an edit was refused.

    Attributes:
        check: short name of the rule, the key under which rejects are counted.
        reason: one sentence for a person.
        value, threshold: what was measured and its limit, None where the rule is not a number.
    """

    def __init__(self, check: str, reason: str, value: float | None = None, threshold: float | None = None) -> None:
        # All four go to Exception, so that the exception survives pickling between processes.
        super().__init__(check, reason, value, threshold)
        self.check = check
        self.reason = reason
        self.value = value
        self.threshold = threshold

    def __str__(self) -> str:
        return f"{self.check}: {self.reason}"
