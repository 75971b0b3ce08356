"""The settings of a run: flat ones, a block for each plug-in, and the user's yaml file."""

from nnunet_semisam.settings.blocks import BLOCKS, Settings, settings_block
from nnunet_semisam.settings.fields import Setting, SettingsBlock, setting, setting_of
from nnunet_semisam.settings.run import RunSettings

__all__ = [
    "BLOCKS",
    "RunSettings",
    "Setting",
    "Settings",
    "SettingsBlock",
    "setting",
    "setting_of",
    "settings_block",
]
