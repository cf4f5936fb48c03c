"""What a ledger, form, record, version, schedule and hold is (ISO 15489). Calls `access/`, so that no door can forget it."""
