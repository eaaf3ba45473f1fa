"""Tables in Markdown, and numbers in them."""


def table(head, rows):
    """The lines of a table. head, rows: cells."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def milliseconds(seconds):
    return brief(1000 * seconds)


def brief(number):
    """Three digits of it, or so."""
    size = abs(number)
    return f"{number:.2f}" if size < 10 else f"{number:.1f}" if size < 100 else f"{number:.0f}"
