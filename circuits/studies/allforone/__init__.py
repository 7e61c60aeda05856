"""All-for-One: in how few blocks the operands of a sum reach the last token."""
