import re


def named(text: str, *names: object) -> bool:
    """Whether one line of `text` holds all `names`, an option's name and values, in this order."""
    return re.search(".*".join(re.escape(str(name)) for name in names), text) is not None
