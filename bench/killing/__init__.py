"""Kill -9 everything that can be killed, and let a referee count what was lost or doubled.

journal.py    what happened outside of the hub: one append-only file, written by
outside.py    a process with the fake U8 and the fake CRM, never killed
writers.py    a process of 24 senders of events that repeat until they are thanked
referee.py    a process that reads the journal only, and knows nothing of the hub
cluster.py    a PostgreSQL of our own that may be stopped at any moment
fleet.py      the hub's processes, killed, frozen and started again
campaign.py   the whole loop: faults, a last quiet while, the verdict
"""
