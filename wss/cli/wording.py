"""Words that several commands print."""


def counted(number: int, noun: str) -> str:
    """The number with the noun, in singular or plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
