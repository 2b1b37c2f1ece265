"""One piece of training work, done by collm and by the released comlrl: the same checkpoint, task, responses and updates."""
