"""What stands in a table of a launcher."""


def cells(table):
    """Texts of a table, row by row."""
    return list(zip(*(column.cells for column in table.columns), strict=True))


def by_name(table):
    """Texts of the rows by that of their first columns, without its indent."""
    return {name.strip(): tuple(rest) for name, *rest in cells(table)}
