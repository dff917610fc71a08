"""Cards: what a user should know about a coreset or a model before using it."""

from easycoreset.documents.markdown import render_markdown
from easycoreset.exporting.data_card import describe_coreset
from easycoreset.exporting.model_card import describe_model, is_model_folder
from easycoreset.exporting.source_tables import read_tables
from easycoreset.files import write_new
from easycoreset.options import ExportOptions


def write_card(options: ExportOptions) -> None:
    """Write a Markdown card: a data card of a coreset, or a model card of a folder of `train`, `score` or `evaluate`.

    It holds only figures that are in the source's files or are counted from them.

    Raises:
        UsageError: the source holds neither, or its evaluation is of another model.
    """
    if options.source.is_dir() and is_model_folder(options.source):
        card = describe_model(options.source)
    else:
        card = describe_coreset(read_tables(options))
    write_new(options.out, lambda path: path.write_text(render_markdown(card), encoding="utf-8"))
