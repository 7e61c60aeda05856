"""What every command's results are made of: intervals, tables, pictures, reports, records."""
