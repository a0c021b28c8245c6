"""Signed webhooks: what the hub tells subscribers by itself.

wakes.py      a page that changes records wakes the subscriptions to its entity
changes.py    changes become messages, the position moves in the same transaction
job.py        the job of one subscription: claim, send in parallel, settle
post.py       one try over HTTP to a checked address (endpoints.py)
settling.py   what a try means: for the message, and for the endpoint (waits.py)
"""
