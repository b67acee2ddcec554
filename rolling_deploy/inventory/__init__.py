"""The inventory: one YAML file that says what the fleet is and how it is to be treated.

`load_inventory` reads it, applies every default, and refuses it with all its problems at once.
"""

from rolling_deploy.inventory.load import load_inventory

__all__ = ["load_inventory"]
