"""Files of decisions, as an audit's page saves them."""

import json

from easycoreset import open_source
from easycoreset.data.content_hashes import content_digest


def decide(folder, *lines, name="decisions.json", data=None, **more):
    """A file of decisions beside the data: (part, row, True to leave out or the right label)."""
    data = data or str(folder)
    source = open_source(data, **({"image_size": 8, "skip_unreadable": True} if folder.is_dir() else {}))
    decisions = []
    for part, row, what in lines:
        split = source.splits[part]
        one = {"part": part, "sample_id": split.sample_ids[row], "digest": content_digest(data, split, row)}
        one["label"] = source.class_names[split.labels[row]]
        decisions.append(one | ({"leave_out": True} if what is True else {"right_label": what}) | more)
    file = folder.parent / name
    file.write_text(json.dumps({"format": "easycoreset decisions", "version": 1, "decisions": decisions}))
    return file, [one["sample_id"] for one in decisions]
