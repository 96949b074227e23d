"""What answers when the model cannot, and what decides that it cannot."""
