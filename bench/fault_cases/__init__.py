"""Every fault of a source and of a target, each tried on a deployment of its own.

rows.py       one line of a table, and what makes it bad
stage.py      a temporary deployment and a hub that runs its flows
sources.py    the two sources, what they do wrong, and the verdict on what arrived
targets.py    the four kinds of target, what goes wrong on the way, and the verdict on the effects
child.py      a hub in a process of its own, to be killed
"""
