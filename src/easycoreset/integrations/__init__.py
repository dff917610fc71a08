"""Adapters that record hardness in other libraries' training loops: one file per library, imported only when used."""
