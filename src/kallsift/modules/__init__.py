"""What a running kernel holds beside itself: its modules, and what they and it export."""
