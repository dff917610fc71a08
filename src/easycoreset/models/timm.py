"""timm's models by name, freshly initialised: nothing is fetched."""

from typing import Any

from torch import nn

from easycoreset.errors import UsageError, nearest


def build_timm(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build `timm:NAME` for images of `shape`; a model of one image size only is built for this one.

    Raises:
        UsageError: the extra is missing, an unknown name, or a model that does not come in this shape.
    """
    try:
        import timm
    except ImportError:
        raise UsageError(f"model 'timm:{name}' needs timm: pip install easycoreset[timm]") from None
    if not timm.is_model(name):
        known = [f"timm:{known}" for known in timm.list_models()]
        raise UsageError(f"unknown model 'timm:{name}': {nearest(f'timm:{name}', known)}")
    channels, *size = shape
    card = timm.get_pretrained_cfg(name, allow_unregistered=True)
    fixed: dict[str, Any] = {"img_size": tuple(size)} if card is not None and card.fixed_input_size else {}
    try:
        return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **fixed)
    except Exception as error:  # its models check their arguments in many ways
        said = " ".join(str(error).split())
        raise UsageError(f"model 'timm:{name}' cannot be built for images of shape {shape}: {said}") from None
