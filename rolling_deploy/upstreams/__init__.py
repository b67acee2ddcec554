"""The user's upstream files: reading, merging with the inventory, rendering, judging what came out.

Text in, values out. Nothing here reaches another machine. nginx's grammar comes from crossplane
(`grammar`), templates are rendered by Jinja2 (`template`).
"""
