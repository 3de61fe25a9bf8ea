"""The tables that a study records: their columns, how they are joined and written."""
