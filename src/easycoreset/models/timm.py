"""timm's models by name, freshly initialised; nothing is downloaded."""

from typing import Any

from torch import nn

from easycoreset.errors import UsageError, suggest_name


def build_timm(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build `timm:NAME` for images of `shape`; a model with a fixed image size is built for this size.

    Raises:
        UsageError: the extra is missing, the name is unknown, or the model cannot take this shape.
    """
    try:
        import timm
    except ImportError:
        raise UsageError(f"model 'timm:{name}' needs timm: pip install easycoreset[timm]") from None
    if not timm.is_model(name):
        names = [f"timm:{model}" for model in timm.list_models()]
        raise UsageError(f"unknown model 'timm:{name}': {suggest_name(f'timm:{name}', names)}")
    channels, *size = shape
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    fixed: dict[str, Any] = {"img_size": tuple(size)} if config is not None and config.fixed_input_size else {}
    try:
        return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **fixed)
    except Exception as error:  # timm's models check their arguments in many ways
        reason = " ".join(str(error).split())
        raise UsageError(f"model 'timm:{name}' cannot be built for images of shape {shape}: {reason}") from None
