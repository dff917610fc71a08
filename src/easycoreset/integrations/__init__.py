"""Hardness in other libraries' training loops: one library a file, imported when it is used."""
