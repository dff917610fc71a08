import re

FEW_SAMPLES = r"ignore:.*\b10\b.*\bsamples of class\b"  # a filter of the warning that a class has few samples


def named(text: str, *names: object) -> bool:
    """Whether one line of `text` holds all `names`, an option's name and values, in this order."""
    return re.search(".*".join(re.escape(str(name)) for name in names), text) is not None
