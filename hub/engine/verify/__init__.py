"""Comparing the source of a flow with its target, record by record, without changing either."""

from hub.engine.verify.verification import Verification, Verifications

__all__ = ["Verification", "Verifications"]
