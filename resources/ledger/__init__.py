"""Every completion that was ever paid for. Imports storage and generation; begin at ledger.py."""
