"""`python -m fuzz`: damaged and hostile files, given to the commands that read them."""
