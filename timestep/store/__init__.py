"""The only SQL besides `migrations/`: one small module for each thing stored or read."""
